//! A model in a bucket of a real S3-compatible server: fetched once, served as one in a folder, and refused in words.

use std::process::Command;

use sera_test_servers::{Conduct, S3Server};
use serde_json::json;

use crate::models::Folder;
use crate::program::{Server, asking, fails};

#[test]
fn a_model_in_a_bucket_is_served_as_one_in_a_folder_and_kept_for_the_next_start() {
    let (bucket, folder, place) =
        (S3Server::start(Conduct::OneAtATime, false).unwrap(), Folder::talker(), tempfile::tempdir().unwrap());
    let (secret, scratch) = (place.path().join("secret"), place.path().join("scratch"));
    std::fs::create_dir_all(&secret).unwrap();
    for (key, value) in bucket.keys() {
        std::fs::write(secret.join(key), value).unwrap();
    }
    let model = bucket.bucket().join("runs/1/model");
    std::fs::create_dir_all(&model).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let arguments = ["--store-credentials", secret.to_str().unwrap(), "--scratch", scratch.to_str().unwrap()];
    let request = asking("x", &json!({"max_tokens": 5}));
    let answer = |server: Server| server.complete(&request).json()["choices"][0]["message"]["content"].clone();
    let expected = answer(Server::start(&folder.path(), &[]));
    let uri = bucket.uri("runs/1/model");
    assert_eq!(answer(Server::start(uri.as_ref(), &arguments)), expected);
    let kept = |file: &str| {
        let folder = std::fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        std::fs::metadata(folder.unwrap().join(file)).unwrap().modified().unwrap()
    };
    let written = kept("model.safetensors");
    assert_eq!(answer(Server::start(uri.as_ref(), &arguments)), expected);
    assert_eq!(kept("model.safetensors"), written, "it was fetched again");

    let fetched = place.path().join("fetched");
    let fetch = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-teacher"));
        command.args(["fetch", "--model", uri.as_ref(), "--to", fetched.to_str().unwrap(), arguments[0], arguments[1]]);
        command.output().unwrap()
    };
    for attempt in 1..=2 {
        let output = fetch();
        assert!(output.status.success(), "{attempt}: {}", String::from_utf8_lossy(&output.stderr));
        let here = std::fs::read(fetched.join("model/model.safetensors")).unwrap();
        assert_eq!(
            here,
            std::fs::read(folder.path().join("model.safetensors")).unwrap(),
            "by one name, whatever its address"
        );
    }
    std::fs::remove_file(fetched.join("model")).unwrap();
    std::fs::create_dir(fetched.join("model")).unwrap();
    let output = fetch();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("fetched/model cannot be made"), "{said}");

    let (code, line) = fails(bucket.uri("runs/2/model").as_ref(), &arguments);
    assert!(code == 10 && line.contains("there is no model in s3://sera/runs/2/model"), "{code} {line}");
    std::fs::write(secret.join("AWS_SECRET_ACCESS_KEY"), "hunter2-wrong").unwrap();
    let (code, line) = fails(uri.as_ref(), &arguments);
    assert!(code == 10 && line.contains("refuses these credentials") && !line.contains("hunter2"), "{code} {line}");
}
