//! `trainyard-s3-server`: serves a folder by the S3 protocol until it is ended.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use trainyard_s3_server::{ACCESS_KEY, SECRET_KEY, Server};

/// An S3 server for tests. Buckets are folders below ROOT, objects the files in them.
#[derive(Parser)]
struct Cli {
    /// Folder that holds the buckets.
    root: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Make these buckets if they are missing.
    #[arg(long)]
    bucket: Vec<String>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    std::fs::create_dir_all(&cli.root)?;
    for bucket in &cli.bucket {
        std::fs::create_dir_all(cli.root.join(bucket))?;
    }
    let listener = TcpListener::bind(&cli.listen)
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    let server = Server::start_on(listener, &cli.root)?;
    println!("endpoint: {}", server.endpoint());
    println!("AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
    loop {
        std::thread::park();
    }
}
