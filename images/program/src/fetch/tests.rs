//! Folders of a real S3-compatible server, brought here over good lines and poor ones.

use sera_test_servers::{Conduct, Cutter, S3Server, Trouble};

use super::*;
use crate::redact::Redactor;
use crate::secrets::SecretFiles;

/// A server with a model, and a scratch folder.
struct Place {
    server: S3Server,
    folder: tempfile::TempDir,
}

/// The model's files, of more than one piece of a download.
const FILES: [(&str, usize); 4] = [
    ("config.json", 9),
    ("model.safetensors", 700_000),
    ("pytorch_model.bin", 50),
    ("additional_chat_templates/x.jinja", 5),
];

impl Place {
    fn new() -> Self {
        let place =
            Self { server: S3Server::start(Conduct::OneAtATime, false).unwrap(), folder: tempfile::tempdir().unwrap() };
        FILES.iter().for_each(|(name, bytes)| place.lay(name, &content(*bytes)));
        place
    }

    fn lay(&self, name: &str, content: &[u8]) {
        let path = self.server.bucket().join("models/q").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn store(&self, origin: Option<&str>) -> Store {
        let folder = tempfile::tempdir().unwrap();
        for (key, value) in self.server.keys() {
            let value = if key == "AWS_ENDPOINT_URL" { origin.map_or(value, str::to_owned) } else { value };
            std::fs::write(folder.path().join(key), value).unwrap();
        }
        let secret = SecretFiles::read(folder.path(), &Redactor::default()).unwrap();
        Store::open(&self.server.uri("models/q"), Some(&secret)).unwrap()
    }

    async fn fetch(&self, kind: Kind) -> Result<PathBuf, FetchError> {
        fetch(&self.store(None), kind, self.folder.path(), &Progress::detect()).await
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_fetched_without_what_nobody_reads_and_found_again() {
    let place = Place::new();
    let folder = place.fetch(Kind::Model).await.unwrap();
    for (name, bytes) in FILES {
        let found = std::fs::read(folder.join(name)).ok();
        assert_eq!(found, (name != "pytorch_model.bin").then(|| content(bytes)), "{name}");
    }
    let written = std::fs::metadata(folder.join("model.safetensors")).unwrap().modified().unwrap();
    // As a container that was killed left it: one file is half there, under no name that counts.
    std::fs::rename(folder.join("config.json"), folder.join("config.json.part")).unwrap();
    assert_eq!(place.fetch(Kind::Model).await.unwrap(), folder);
    assert_eq!(std::fs::read(folder.join("config.json")).unwrap(), content(9));
    assert_eq!(std::fs::metadata(folder.join("model.safetensors")).unwrap().modified().unwrap(), written);

    let tokenizer = place.fetch(Kind::Tokenizer).await.unwrap();
    assert!(tokenizer != folder && tokenizer.join("additional_chat_templates/x.jinja").exists());
    assert!(!tokenizer.join("config.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_changed_in_the_store_goes_to_another_folder() {
    let place = Place::new();
    let before = place.fetch(Kind::Model).await.unwrap();
    place.lay("config.json", b"different");
    let after = place.fetch(Kind::Model).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(std::fs::read(after.join("config.json")).unwrap(), b"different");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_want_it_at_once_fetch_it_once() {
    let place = Place::new();
    let folders = futures::future::join_all((0..6).map(|_| place.fetch(Kind::Model))).await;
    let folders: Vec<PathBuf> = folders.into_iter().map(Result::unwrap).collect();
    assert!(folders.iter().all(|folder| *folder == folders[0]));
    assert_eq!(std::fs::read(folders[0].join("model.safetensors")).unwrap(), content(700_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_line_that_is_cut_and_from_a_server_that_is_busy_it_comes_whole() {
    let place = Place::new();
    place.server.make(Trouble::Busy(3));
    let host = place.server.origin().trim_start_matches("http://").to_owned();
    let line = Cutter::to(&host, |number| if number < 6 { 40_000 * number } else { u64::MAX }).unwrap();
    let store = place.store(Some(&line.origin()));
    let folder = fetch(&store, Kind::Model, place.folder.path(), &Progress::detect()).await.unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), content(700_000));
    assert!(line.cuts() > 0, "nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_its_manifest_says_is_named() {
    let place = Place::new();
    let sha256 = Digest::of(&content(9)).sha256;
    let manifest = |sha256: &str| format!(r#"{{"files":[{{"name":"config.json","bytes":9,"sha256":"{sha256}"}}]}}"#);
    place.lay("manifest.json", manifest(&sha256.replace('0', "1")).as_bytes());
    let error = place.fetch(Kind::Model).await.unwrap_err();
    assert!(matches!(&error, FetchError::Damaged { name, .. } if name == "config.json"), "{error}");
    assert_eq!(error.cause(Field::Student, Field::StudentCredentials).field, Some(Field::Student));
    place.lay("manifest.json", manifest(&sha256).as_bytes());
    place.fetch(Kind::Model).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_the_address_is_named() {
    let place = Place::new();
    let error = place.fetch(Kind::Dataset).await.unwrap_err();
    assert!(error.to_string().contains("there is no dataset in s3://sera/models/q"), "{error}");
    std::fs::remove_dir_all(place.server.bucket()).unwrap();
    let error = place.fetch(Kind::Model).await.unwrap_err();
    let cause = error.cause(Field::Student, Field::StudentCredentials);
    assert_eq!((cause.field, cause.reason), (Some(Field::Student), "StoreNotFound"), "{error}");
}

#[test]
fn a_name_that_leads_elsewhere_is_none() {
    assert!(is_plain("a/b.json") && ["../x", "/x", "a/../../x", "./a"].iter().all(|name| !is_plain(name)));
}
