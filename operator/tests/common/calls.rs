//! The operator's calls to the API server: one list, which the tests of the chart hold against the roles that it renders, and the
//! world against the calls that the operator makes there. A right is thus neither missing nor unused.

use std::collections::BTreeSet;

/// A call: group, resource or resource/subresource, verb, and where in the code it is made.
pub type Call = (&'static str, &'static str, &'static str, &'static str);

/// A right as a role gives it: group, resource, verb.
pub type Right = (String, String, String);

/// All calls but those about the Lease, which the world does without, and for the version, which every account may ask. On a
/// cluster, the operator runs with no other rights.
pub const CALLS: &[Call] = &[
    (
        "trainyard.dev",
        "trainingjobs",
        "list",
        "controller::run; apply::is_current",
    ),
    ("trainyard.dev", "trainingjobs", "watch", "controller::run"),
    (
        "trainyard.dev",
        "trainingjobs",
        "delete",
        "apply::Step::DeleteJob",
    ),
    (
        "trainyard.dev",
        "trainingjobs/status",
        "update",
        "apply::write_status",
    ),
    ("", "pods", "list", "controller::pods"),
    ("", "pods", "watch", "controller::pods"),
    ("", "pods", "create", "apply::create"),
    (
        "",
        "pods",
        "get",
        "apply::create: one of that name is there; apply::find",
    ),
    ("", "pods", "patch", "apply::label"),
    ("", "pods", "delete", "apply::Step::DeletePod"),
    (
        "",
        "services",
        "list",
        "controller::children; apply::make: whose it is",
    ),
    ("", "services", "watch", "controller::children"),
    ("", "services", "create", "apply::make"),
    ("", "services", "patch", "apply::make of what is there"),
    (
        "",
        "configmaps",
        "list",
        "controller::children; apply::make: whose it is",
    ),
    ("", "configmaps", "watch", "controller::children"),
    ("", "configmaps", "create", "apply::make"),
    ("", "configmaps", "patch", "apply::make of what is there"),
    ("", "configmaps", "get", "apply::missing_reference"),
    (
        "",
        "persistentvolumeclaims",
        "get",
        "apply::missing_reference",
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        "list",
        "controller::children; apply::make: whose it is",
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        "watch",
        "controller::children",
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        "create",
        "apply::make",
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        "patch",
        "apply::make of what is there",
    ),
    ("events.k8s.io", "events", "create", "kube's Recorder"),
    (
        "events.k8s.io",
        "events",
        "patch",
        "kube's Recorder: an event again",
    ),
];

/// The rights that calls need.
pub fn rights(calls: &[Call]) -> BTreeSet<Right> {
    let right = |(group, resource, verb, _): &Call| {
        (group.to_string(), resource.to_string(), verb.to_string())
    };
    calls.iter().map(right).collect()
}
