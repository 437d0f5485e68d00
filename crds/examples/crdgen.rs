//! Prints the CustomResourceDefinitions.
fn main() {
    for crd in trainyard_crds::schema::crds() {
        println!("{}", serde_json::to_string_pretty(&crd).unwrap_or_default());
    }
}
