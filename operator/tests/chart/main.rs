//! The chart, as the real helm renders it.

#[path = "../common/calls.rs"]
mod calls;
mod helm;
mod network;
mod policy;
#[path = "../../../crds/examples/crdgen/render.rs"]
mod render_crd;
mod rights;
mod values;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use helm::{chart, defaults, of_kind, render, the, try_template};

/// Values that switch everything on.
const ALL: &[&str] = &[
    "replicas=2",
    "metrics.serviceMonitor.enabled=true",
    r#"networkPolicy.ingressFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#,
    r#"imagePullSecrets=[{"name":"registry"}]"#,
    r#"env=[{"name":"HTTPS_PROXY","value":"http://proxy:3128"}]"#,
    r#"nodeSelector={"kubernetes.io/os":"linux"}"#,
    r#"tolerations=[{"key":"system","operator":"Exists"}]"#,
    r#"affinity={"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"kubernetes.io/hostname"}]}}"#,
    r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}]"#,
    r#"priorityClassName="system-cluster-critical""#,
    r#"commonLabels={"team":"ml"}"#,
    r#"podLabels={"app.kubernetes.io/name":"other","tier":"control"}"#,
    r#"podAnnotations={"note":"x"}"#,
    r#"serviceAccount.annotations={"note":"x"}"#,
];

#[test]
fn o30_lint_finds_nothing() {
    for set in [&[][..], ALL, &[r#"watchNamespace="ml""#]] {
        let mut arguments = vec!["lint", "--strict", "--kube-version=1.34.0"];
        set.iter()
            .for_each(|change| arguments.extend(["--set-json", *change]));
        let path = chart();
        arguments.push(path.to_str().expect("a path of this repository is text"));
        let output = helm::helm(arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn o30_the_default_values_give_what_is_needed_and_no_secret() {
    let mut kinds: Vec<&str> = defaults()
        .iter()
        .filter_map(|o| o["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    let wanted = [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ];
    assert_eq!(kinds, wanted);
    let all = render(ALL);
    assert!(of_kind(&all, "Secret").is_empty());
    for kind in ["PodDisruptionBudget", "Service", "ServiceMonitor"] {
        the(&all, kind);
    }
    assert!(of_kind(&render(&["metrics.service.enabled=true"]), "ServiceMonitor").is_empty());
}

#[test]
fn o30_the_definition_is_the_generated_one_and_is_kept() {
    let crds = trainyard_crds::schema::crds();
    let mut wanted = Vec::new();
    for crd in &crds {
        let text = render_crd::yaml(crd).expect("a definition is YAML");
        let path = chart().join("files").join(render_crd::file_name(crd));
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{} is not current: make chart",
            path.display()
        );
        let mut object = helm::yaml(&text);
        object["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
        wanted.push(object);
    }
    let found = of_kind(defaults(), "CustomResourceDefinition");
    assert!(found.into_iter().eq(&wanted), "the template changes more");
    let files = std::fs::read_dir(chart().join("files")).expect("the chart has files");
    assert_eq!(files.count(), crds.len());
    assert!(of_kind(&render(&["crds.install=false"]), "CustomResourceDefinition").is_empty());
}

#[test]
fn a_packaged_chart_renders_the_same() {
    let folder = tempfile::tempdir().expect("a folder for the package");
    let (path, destination) = (chart(), folder.path());
    let output = helm::helm([
        "package".as_ref(),
        path.as_os_str(),
        "--destination".as_ref(),
        destination.as_os_str(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let package = std::fs::read_dir(destination)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .next()
        .expect("a package was written");
    let text = try_template(&package, &[]).expect("a package renders");
    assert_eq!(helm::objects(&text), defaults());
}

/// A value that names a field which Kubernetes does not know would be lost on the way through its type.
fn survives<K: Serialize + DeserializeOwned>(object: &Value) {
    let typed: K =
        serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object}"));
    let again = serde_json::to_value(typed).expect("an object is JSON");
    assert_eq!(&again, object);
}

#[test]
fn objects_have_only_fields_that_kubernetes_knows() {
    let scoped = [ALL, &[r#"watchNamespace="ml""#]].concat();
    for objects in [defaults().to_vec(), render(ALL), render(&scoped)] {
        for object in &objects {
            match object["kind"].as_str().unwrap_or_default() {
                "ServiceAccount" => survives::<ServiceAccount>(object),
                "ClusterRole" => survives::<ClusterRole>(object),
                "ClusterRoleBinding" => survives::<ClusterRoleBinding>(object),
                "Role" => survives::<Role>(object),
                "RoleBinding" => survives::<RoleBinding>(object),
                "Deployment" => survives::<Deployment>(object),
                "NetworkPolicy" => survives::<NetworkPolicy>(object),
                "PodDisruptionBudget" => survives::<PodDisruptionBudget>(object),
                "Service" => survives::<Service>(object),
                // Compared with the generated one; and no type of Kubernetes' own.
                "CustomResourceDefinition" | "ServiceMonitor" => {}
                other => panic!("an object of kind {other:?}"),
            }
        }
    }
}

#[test]
fn o24_the_operators_pod_passes_the_restricted_standard() {
    for objects in [defaults(), &render(ALL)] {
        let pod = &the(objects, "Deployment")["spec"]["template"]["spec"];
        for field in [
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "volumes",
            "initContainers",
        ] {
            assert!(pod.get(field).is_none(), "{field}");
        }
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_ne!(context["runAsUser"], 0);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        let containers = pod["containers"].as_array().expect("containers");
        for container in containers {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
            let ports = container["ports"].as_array().into_iter().flatten();
            assert!(ports.into_iter().all(|port| port.get("hostPort").is_none()));
        }
    }
}

#[test]
fn o29_liveness_and_readiness_ask_different_questions() {
    let container = &the(defaults(), "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
}

/// The program ends with 2 if it does not know an argument, with 1 if there is no cluster.
#[test]
fn the_operator_takes_the_arguments_that_the_chart_gives() {
    for set in [&[][..], &[r#"watchNamespace="ml""#, r#"log.format="text""#]] {
        let objects = render(set);
        let container = &the(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let arguments: Vec<&str> = container["args"]
            .as_array()
            .expect("arguments")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(arguments.contains(&"--namespace=ml"), !set.is_empty());
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_trainyard-operator"))
            .args(&arguments)
            .env_clear()
            .env("KUBECONFIG", "/nonexistent/kubeconfig")
            .env("POD_NAME", "a")
            .env("POD_NAMESPACE", "b")
            .output()
            .expect("the operator starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("no cluster"), "{said}");
        // What the program reads from its environment, the pod has.
        let env = container["env"].as_array().expect("an environment");
        for (name, field) in [
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
        ] {
            let variable = env.iter().find(|v| v["name"] == name).expect(name);
            assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], field);
        }
    }
}

#[test]
fn images_have_the_charts_version_unless_values_say_otherwise() {
    let images = |set: &[&str]| {
        let objects = render(set);
        let container = &the(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        (container["image"].clone(), container["args"][0].clone())
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        images(&[]),
        (
            json!(format!("trainyard.dev/operator:{version}")),
            json!(format!("--trainer-image=trainyard.dev/trainer:{version}")),
        )
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    let set = [
        r#"image.repository="r.example/o""#.to_owned(),
        format!(r#"image.digest="{digest}""#),
        r#"trainerImage.tag="nightly""#.to_owned(),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    assert_eq!(
        images(&set),
        (
            json!(format!("r.example/o@{digest}")),
            json!("--trainer-image=trainyard.dev/trainer:nightly"),
        )
    );
}

#[test]
fn a_budget_stands_where_one_of_several_operators_may_go() {
    assert!(of_kind(defaults(), "PodDisruptionBudget").is_empty());
    let objects = render(&["replicas=2"]);
    let budget = the(&objects, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let labels = &the(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let wanted = budget["spec"]["selector"]["matchLabels"]
        .as_object()
        .expect("labels");
    assert!(wanted.iter().all(|(key, value)| &labels[key] == value));
}

#[test]
fn labels_of_the_user_do_not_replace_those_that_policies_select() {
    let objects = render(ALL);
    let deployment = the(&objects, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "trainyard-operator");
    assert_eq!(
        (&labels["tier"], &labels["team"]),
        (&json!("control"), &json!("ml"))
    );
    assert_eq!(deployment["metadata"]["labels"]["team"], "ml");
    assert!(deployment["metadata"]["labels"].get("tier").is_none());
}

#[test]
fn a_service_monitor_finds_the_service_and_its_port() {
    let objects = render(&["metrics.serviceMonitor.enabled=true"]);
    let (service, monitor) = (the(&objects, "Service"), the(&objects, "ServiceMonitor"));
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .expect("labels");
    assert!(
        wanted
            .iter()
            .all(|(key, value)| &service["metadata"]["labels"][key] == value)
    );
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    let pod = &the(&objects, "Deployment")["spec"]["template"];
    let selected = service["spec"]["selector"].as_object().expect("a selector");
    assert!(
        selected
            .iter()
            .all(|(key, value)| &pod["metadata"]["labels"][key] == value)
    );
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        pod["spec"]["containers"][0]["ports"][0]["name"]
    );
}

#[test]
fn names_follow_the_release_and_fit() {
    let name = |release: &str, set: &[&str]| {
        let path = chart();
        let mut arguments = vec![
            "template",
            release,
            path.to_str().expect("text"),
            "--kube-version=1.34.0",
        ];
        set.iter()
            .for_each(|change| arguments.extend(["--set", *change]));
        let output = helm::helm(arguments);
        let objects = helm::objects(&String::from_utf8_lossy(&output.stdout));
        the(&objects, "Deployment")["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    assert_eq!(name("trainyard", &[]), "trainyard-operator");
    assert_eq!(name("ml", &[]), "ml-trainyard-operator");
    assert_eq!(name("ml", &["nameOverride=ty"]), "ml-ty-operator");
    assert_eq!(name("ml", &["fullnameOverride=ty"]), "ty-operator");
    assert!(name(&"a".repeat(53), &[]).len() <= 63);
}
