//! The keys by which a job's servers and workers know each other, and how they come into the pods: from a Secret that the operator
//! makes and nobody but the kubelets reads.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    EnvVar, KeyToPath, Secret, SecretVolumeSource, Volume, VolumeMount,
};
use trainyard_contract::env::KEY_FILE;
use trainyard_contract::pod::{KEY_FOLDER, KEY_NAME, KEY_PATH};
use trainyard_contract::{Key, Role};

use super::keys_name;
use super::network::metadata;
use crate::job::{Job, KEY_VOLUME};

/// Who may read the file: its owner, root, and the pod's `fsGroup`, which the kubelet gives it to.
const MODE: i32 = 0o440;

/// The Secret with a job's keys, made of random bytes: one entry a role, named after it.
pub fn keys(job: &Job, random: [u8; Key::BYTES]) -> Secret {
    let servers = Key::of_servers(random);
    let entry = |role: Role| {
        let text = servers.of_role(role).to_text();
        (role.name().to_owned(), ByteString(text.into_bytes()))
    };
    Secret {
        metadata: metadata(job, keys_name(job)),
        type_: Some("Opaque".into()),
        data: Some([Role::Server, Role::Worker].map(entry).into()),
        // Pods of one job must agree, those that come later too.
        immutable: Some(true),
        ..Secret::default()
    }
}

/// Whether pods of a role are given a key. A finisher has nobody to prove itself to.
fn is_given(job: &Job, role: Role) -> bool {
    match role {
        Role::Server | Role::Worker => job.has_keys,
        Role::Finisher => false,
    }
}

/// The volume with the key of a role, and no other's: a worker must not pass for a server.
pub(super) fn volume(job: &Job, role: Role) -> Option<Volume> {
    is_given(job, role).then(|| Volume {
        name: KEY_VOLUME.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(keys_name(job)),
            items: Some(vec![KeyToPath {
                key: role.name().into(),
                path: KEY_NAME.into(),
                mode: None,
            }]),
            default_mode: Some(MODE),
            optional: None,
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(job: &Job, role: Role) -> Option<VolumeMount> {
    is_given(job, role).then(|| VolumeMount {
        name: KEY_VOLUME.into(),
        mount_path: KEY_FOLDER.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

/// Where the key is. Not an argument: the image of a job may be older than the operator, and passes over what it does not know.
pub(super) fn env(job: &Job, role: Role) -> Option<EnvVar> {
    is_given(job, role).then(|| EnvVar {
        name: KEY_FILE.into(),
        value: Some(KEY_PATH.into()),
        ..EnvVar::default()
    })
}
