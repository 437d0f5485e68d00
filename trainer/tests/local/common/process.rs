//! What the system tells of a process.

use std::fs;

/// Open file descriptors of a process that runs.
pub fn descriptors(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    folder.count()
}

/// Addresses on loopback at which a process takes TCP connections; none of a process that has ended.
pub fn doors(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let links = open
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let ours = listening()
        .into_iter()
        .filter(|(inode, _)| inodes.contains(inode));
    ours.map(|(_, port)| format!("127.0.0.1:{port}")).collect()
}

/// Inodes and ports of the TCP sockets that listen on this machine (`proc_net_tcp` of the kernel's documentation).
fn listening() -> Vec<(String, u16)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let text = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = text.iter().flat_map(|text| text.lines());
    let sockets = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (fields[3] == "0A").then(|| (fields[9].to_owned(), port))
    });
    sockets.collect()
}
