//! How a pod of a job is laid out: its container, ports, folders and pages.

/// Name of the container.
pub const CONTAINER: &str = "trainer";

/// Port of the training protocol.
pub const PROTOCOL_PORT: u16 = 7000;
/// Port of the pages.
pub const HTTP_PORT: u16 = 8080;

/// Page with the [`Progress`](crate::Progress) of the job, as JSON; of server 0.
pub const STATUS_PAGE: &str = "/status";
/// Page that answers as long as the process is alive.
pub const HEALTH_PAGE: &str = "/healthz";
/// Page with metrics in the text format of Prometheus.
pub const METRICS_PAGE: &str = "/metrics";

/// Folder of the job file.
pub const JOB_FOLDER: &str = "/etc/trainyard";
/// Name of the job file, in that folder and in the ConfigMap that it comes from.
pub const JOB_FILE: &str = "job.json";
/// The job file.
pub const JOB_PATH: &str = "/etc/trainyard/job.json";
/// Folder of the key, in servers and workers.
pub const KEY_FOLDER: &str = "/etc/trainyard-key";
/// Name of the file with the key, in that folder.
pub const KEY_NAME: &str = "key";
/// The file with the key.
pub const KEY_PATH: &str = "/etc/trainyard-key/key";
/// Folder of the data, in workers.
pub const DATA_FOLDER: &str = "/data";
/// Folder of the volume with the checkpoints, in servers.
pub const STORAGE_FOLDER: &str = "/storage";
/// Folder for temporary files.
pub const TEMPORARY_FOLDER: &str = "/tmp";
/// File that the kubelet takes the termination message from.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_their_folders() {
        assert_eq!(JOB_PATH, format!("{JOB_FOLDER}/{JOB_FILE}"));
        assert_eq!(KEY_PATH, format!("{KEY_FOLDER}/{KEY_NAME}"));
    }
}
