//! The images that every node has from the start: busybox, for tests and for what holds a pod's namespaces. They are
//! written as an archive from Debian's static busybox, without a builder or a registry.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::config::PAUSE_IMAGE;
use crate::packages::Package;

/// The image that test pods run.
pub const BUSYBOX_IMAGE: &str = "localhost/busybox:1";
/// Where busybox is taken from: it is linked statically, so it is all that an image needs.
pub(in crate::cluster) const BUSYBOX_PACKAGE: Package = Package::new("busybox-static", BUSYBOX);
/// Where that package puts it.
const BUSYBOX: &str = "/bin/busybox";
/// Where it lies in the image.
const BUSYBOX_INSIDE: &str = "bin/busybox";
/// The commands that test pods use; each is a link to busybox.
const COMMANDS: [&str; 35] = [
    "cat", "chmod", "cp", "cut", "date", "dd", "echo", "env", "false", "find", "grep", "head", "hostname", "httpd",
    "id", "ls", "mkdir", "mv", "nc", "nslookup", "ps", "rm", "sed", "seq", "sh", "sleep", "sort", "tail", "test",
    "timeout", "touch", "tr", "true", "wc", "wget",
];

/// Writes an archive in `docker save`'s format that holds both images.
pub(in crate::cluster) fn write_archive(path: &Path) -> io::Result<()> {
    let layer = layer(&fs::read(BUSYBOX)?)?;
    let digest = hex::encode(Sha256::digest(&layer));
    let busybox = configuration(&digest, &json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}));
    let pause = configuration(&digest, &json!({"Entrypoint": ["/bin/busybox", "sleep", "infinity"]}));
    let layers = json!(["layer.tar"]);
    let manifest = json!([
        {"Config": "busybox.json", "RepoTags": [BUSYBOX_IMAGE], "Layers": layers},
        {"Config": "pause.json", "RepoTags": [PAUSE_IMAGE], "Layers": layers},
    ]);
    let mut archive = Builder::new(fs::File::create(path)?);
    for (name, content) in [
        ("layer.tar", layer),
        ("busybox.json", busybox.to_string().into_bytes()),
        ("pause.json", pause.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        append(&mut archive, name, EntryType::Regular, 0o644, &content)?;
    }
    archive.into_inner().map(drop)
}

/// An image's configuration (OCI image specification, `config.md`).
fn configuration(layer: &str, config: &serde_json::Value) -> serde_json::Value {
    json!({
        "architecture": architecture(), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

/// This machine's architecture, in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The file system of both images: busybox, its names, and a /tmp for everyone.
fn layer(busybox: &[u8]) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        append(&mut layer, folder, EntryType::Directory, mode, &[])?;
    }
    append(&mut layer, "etc/passwd", EntryType::Regular, 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    append(&mut layer, BUSYBOX_INSIDE, EntryType::Regular, 0o755, busybox)?;
    for command in COMMANDS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{command}"), "busybox")?;
    }
    layer.into_inner()
}

fn append<W: io::Write>(
    tar: &mut Builder<W>,
    name: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = header(kind, mode, content.len() as u64);
    tar.append_data(&mut header, name, content)
}

/// A header without a time or an owner of its own, so that the same busybox gives the same image.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_layer_holds_busybox_under_all_its_names_and_is_the_same_each_time() {
        let bytes = layer(b"not really busybox").unwrap();
        assert_eq!(bytes, layer(b"not really busybox").unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: BTreeSet<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        for name in ["bin/busybox", "bin/sh", "bin/wget", "tmp/"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
    }
}
