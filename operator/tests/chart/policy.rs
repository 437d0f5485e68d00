//! What network policies let through, after the rules of `networking.k8s.io/v1`: a pod that no policy selects takes everything;
//! one that some select takes what one of their rules lets in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Whether `to` takes a TCP connection of `from` on a port. Namespaces carry the label that Kubernetes gives them, no other.
pub fn lets_through(policies: &[NetworkPolicy], from: &Pod, to: &Pod, port: u16) -> bool {
    let selecting: Vec<&NetworkPolicy> = policies
        .iter()
        .filter(|policy| selects(policy, to))
        .collect();
    selecting.is_empty()
        || selecting.iter().any(|policy| {
            let spec = policy.spec.as_ref();
            let rules = spec.and_then(|spec| spec.ingress.as_ref());
            rules.into_iter().flatten().any(|rule| {
                let from_matches = match rule.from.as_deref() {
                    None | Some([]) => true,
                    Some(peers) => peers.iter().any(|peer| {
                        matches_peer(peer, namespace(&policy.metadata.namespace), from)
                    }),
                };
                let port_matches = match rule.ports.as_deref() {
                    None | Some([]) => true,
                    Some(ports) => ports.iter().any(|wanted| matches_port(wanted, to, port)),
                };
                from_matches && port_matches
            })
        })
}

/// Whether a policy is about what comes to a pod.
pub fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    let ingress = spec
        .policy_types
        .as_ref()
        .is_none_or(|types| types.iter().any(|kind| kind == "Ingress"));
    let everything = LabelSelector::default();
    ingress
        && policy.metadata.namespace == pod.metadata.namespace
        && matches(
            spec.pod_selector.as_ref().unwrap_or(&everything),
            labels(pod),
        )
}

fn matches_peer(peer: &NetworkPolicyPeer, own_namespace: &str, pod: &Pod) -> bool {
    assert!(peer.ip_block.is_none(), "addresses are not judged here");
    let its_namespace = namespace(&pod.metadata.namespace);
    let namespace_matches = match &peer.namespace_selector {
        None => its_namespace == own_namespace,
        Some(selector) => {
            let name = (
                "kubernetes.io/metadata.name".to_owned(),
                its_namespace.to_owned(),
            );
            matches(selector, &[name].into())
        }
    };
    let pod_matches = peer
        .pod_selector
        .as_ref()
        .is_none_or(|selector| matches(selector, labels(pod)));
    namespace_matches && pod_matches
}

fn matches_port(wanted: &NetworkPolicyPort, to: &Pod, port: u16) -> bool {
    assert!(wanted.end_port.is_none(), "ranges are not judged here");
    let tcp = wanted.protocol.as_deref().is_none_or(|name| name == "TCP");
    let number = i32::from(port);
    tcp && match &wanted.port {
        None => true,
        Some(IntOrString::Int(wanted)) => *wanted == number,
        Some(IntOrString::String(name)) => {
            let containers = to.spec.iter().flat_map(|spec| &spec.containers);
            containers
                .flat_map(|container| container.ports.iter().flatten())
                .any(|port| port.name.as_ref() == Some(name) && port.container_port == number)
        }
    }
}

/// Whether a selector matches labels; an empty one matches all.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let listed =
            || value.is_some_and(|value| wanted.values.iter().flatten().any(|v| v == value));
        match wanted.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => panic!("{other} is no operator of a selector"),
        }
    });
    equal && expressions
}

fn labels(pod: &Pod) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

fn namespace(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}
