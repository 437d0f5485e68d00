//! The operator's calls to the API server: one list, which the tests of the chart hold against the roles that it renders, and the
//! world against the calls that the operator makes there. A right is thus neither missing nor unused.

use std::collections::BTreeSet;

/// A call: group, resource or resource/subresource, verb, and where in the code it is made.
pub type Call = (&'static str, &'static str, &'static str, &'static str);

/// A right as a role gives it: group, resource, verb.
pub type Right = (String, String, String);

/// All calls but those about the Lease, which the world does without, and for the version, which every account may ask. On a
/// cluster, the operator runs with no other rights.
#[rustfmt::skip] // a table
pub const CALLS: &[Call] = &[
    ("trainyard.dev",     "trainingjobs",           "list",   "controller::run; read::is_current"),
    ("trainyard.dev",     "trainingjobs",           "watch",  "controller::run"),
    ("trainyard.dev",     "trainingjobs",           "delete", "apply::delete_job"),
    ("trainyard.dev",     "trainingjobs/status",    "update", "apply::write_status"),
    ("",                  "pods",                   "list",   "controller::pods"),
    ("",                  "pods",                   "watch",  "controller::pods"),
    ("",                  "pods",                   "create", "apply::create_pod"),
    ("",                  "pods",                   "get",    "read::pod"),
    ("",                  "pods",                   "patch",  "apply::label"),
    ("",                  "pods",                   "delete", "apply::delete_pod"),
    ("",                  "services",               "list",   "controller::children; read::child: whose it is"),
    ("",                  "services",               "watch",  "controller::children"),
    ("",                  "services",               "create", "apply::write"),
    ("",                  "services",               "patch",  "apply::write of what is there"),
    ("",                  "configmaps",             "list",   "controller::children; read::child: whose it is"),
    ("",                  "configmaps",             "watch",  "controller::children"),
    ("",                  "configmaps",             "create", "apply::write"),
    ("",                  "configmaps",             "patch",  "apply::write of what is there"),
    ("",                  "configmaps",             "get",    "read::missing_reference"),
    ("",                  "persistentvolumeclaims", "get",    "read::missing_reference"),
    ("",                  "secrets",                "create", "apply::create_keys; never anything else"),
    ("networking.k8s.io", "networkpolicies",        "list",   "controller::children; read::child: whose it is"),
    ("networking.k8s.io", "networkpolicies",        "watch",  "controller::children"),
    ("networking.k8s.io", "networkpolicies",        "create", "apply::write"),
    ("networking.k8s.io", "networkpolicies",        "patch",  "apply::write of what is there"),
    ("events.k8s.io",     "events",                 "create", "kube's Recorder"),
    ("events.k8s.io",     "events",                 "patch",  "kube's Recorder: an event again"),
];

/// The rights that calls need.
pub fn rights(calls: &[Call]) -> BTreeSet<Right> {
    let right = |(group, resource, verb, _): &Call| {
        (group.to_string(), resource.to_string(), verb.to_string())
    };
    calls.iter().map(right).collect()
}
