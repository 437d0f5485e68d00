//! The operator's rights: those that its calls need. That the calls are these is the world's to say.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use crate::calls::{CALLS, Call, Right, rights};
use crate::helm::{NAMESPACE, defaults, of_kind, render, the};

/// The calls about the Lease. kube-lease-manager makes them, and nothing that runs here: this list is kept by hand, beside its
/// version. What it lacks shows on a cluster, where the operator would not lead.
const LEASE_CALLS: &[Call] = &[
    ("coordination.k8s.io", "leases", "get", "kube-lease-manager"),
    (
        "coordination.k8s.io",
        "leases",
        "create",
        "kube-lease-manager, if there is none",
    ),
    (
        "coordination.k8s.io",
        "leases",
        "patch",
        "kube-lease-manager: take, renew, release",
    ),
];

fn rules(role: &Value) -> Vec<PolicyRule> {
    serde_json::from_value(role["rules"].clone()).expect("a role has rules")
}

/// The rights that a role gives; one given twice is a mistake.
fn given(role: &Value) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules(role) {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let right = (group.clone(), resource.clone(), verb.clone());
                    assert!(rights.insert(right.clone()), "{right:?} is given twice");
                }
            }
        }
    }
    rights
}

#[test]
fn o23_the_rights_are_exactly_those_that_the_calls_need() {
    let objects = defaults();
    assert_eq!(given(the(objects, "ClusterRole")), rights(CALLS));
    let lease = the(objects, "Role");
    assert_eq!(lease["metadata"]["namespace"], NAMESPACE);
    assert_eq!(given(lease), rights(LEASE_CALLS));
}

#[test]
fn o23_no_wildcard_no_way_to_read_a_secret_no_way_to_more_rights() {
    let scoped = render(&[r#"watchNamespace="ml""#, "replicas=2"]);
    for objects in [defaults(), &scoped] {
        let roles = [of_kind(objects, "ClusterRole"), of_kind(objects, "Role")].concat();
        assert_eq!(roles.len(), 2);
        for rule in roles.into_iter().flat_map(rules) {
            let words = [
                rule.api_groups.unwrap_or_default(),
                rule.resources.unwrap_or_default(),
                rule.verbs,
            ]
            .concat();
            for word in &words {
                assert!(!word.contains('*'), "{word}");
            }
            if words.iter().any(|word| word.starts_with("secrets")) {
                assert_eq!(words, ["", "secrets", "create"]);
            }
            for word in [
                "escalate",
                "bind",
                "impersonate",
                "pods/exec",
                "serviceaccounts/token",
            ] {
                assert!(!words.iter().any(|w| w == word), "{word}");
            }
            assert!(rule.non_resource_urls.is_none());
        }
    }
}

#[test]
fn o23_rights_to_a_lease_end_at_the_operators_own() {
    let container = &the(defaults(), "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let named = container["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find_map(|argument| argument.strip_prefix("--lease-name="))
        .expect("the Lease has a name");
    for rule in rules(the(defaults(), "Role")) {
        // Kubernetes cannot limit the right to create to a name.
        let names = rule.resource_names.unwrap_or_default();
        assert!(
            rule.verbs == ["create"] || names == [named],
            "{:?}",
            rule.verbs
        );
    }
}

#[test]
fn a_watched_namespace_limits_the_rights_to_it() {
    let objects = render(&[r#"watchNamespace="ml""#]);
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    let in_namespace = |kind: &str, namespace: &str| -> Vec<Value> {
        of_kind(&objects, kind)
            .into_iter()
            .filter(|object| object["metadata"]["namespace"] == namespace)
            .cloned()
            .collect()
    };
    let roles = in_namespace("Role", "ml");
    assert_eq!(roles.len(), 1);
    assert_eq!(given(&roles[0]), rights(CALLS));
    assert_eq!(
        given(&in_namespace("Role", NAMESPACE)[0]),
        rights(LEASE_CALLS)
    );
    for namespace in ["ml", NAMESPACE] {
        let (role, binding) = (
            in_namespace("Role", namespace),
            in_namespace("RoleBinding", namespace),
        );
        assert_eq!(binding[0]["roleRef"]["name"], role[0]["metadata"]["name"]);
    }
}

#[test]
fn rights_are_bound_to_the_account_that_the_pods_run_under() {
    for set in [
        &[][..],
        &[r#"serviceAccount.name="other""#],
        &["serviceAccount.create=false"],
    ] {
        let objects = render(set);
        let pod = &the(&objects, "Deployment")["spec"]["template"]["spec"];
        let bindings = [
            of_kind(&objects, "ClusterRoleBinding"),
            of_kind(&objects, "RoleBinding"),
        ]
        .concat();
        assert_eq!(bindings.len(), 2);
        for binding in bindings {
            let subject = &binding["subjects"][0];
            assert_eq!(subject["name"], pod["serviceAccountName"]);
            assert_eq!(subject["namespace"], NAMESPACE);
        }
        let accounts = of_kind(&objects, "ServiceAccount");
        for account in &accounts {
            assert_eq!(account["metadata"]["name"], pod["serviceAccountName"]);
            assert_eq!(account["automountServiceAccountToken"], false);
        }
        assert_eq!(accounts.is_empty(), set == ["serviceAccount.create=false"]);
        assert_eq!(pod["automountServiceAccountToken"], true);
    }
    assert!(
        render(&["rbac.create=false"])
            .iter()
            .all(|object| { !object["kind"].as_str().unwrap_or_default().contains("Role") })
    );
}
