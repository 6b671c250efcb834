//! What every kind of store has to keep: the same tests on a folder of this machine and on a real S3-compatible server.

use std::path::Path as FilePath;

use futures::future::join_all;
use sera_test_servers::{Conduct, S3Server, Trouble};

use super::transfer::MIN_PART;
use super::*;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::secrets::SecretFiles;

/// A store of one kind, and what it lies in.
struct Place {
    kind: &'static str,
    uri: String,
    secret: Option<SecretFiles>,
    folder: tempfile::TempDir,
    server: Option<S3Server>,
}

impl Place {
    fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let uri = url::Url::from_file_path(folder.path().join("a store")).unwrap().to_string();
        Self { kind: "file", uri, secret: None, folder, server: None }
    }

    fn s3(conduct: Conduct, tls: bool) -> Self {
        let server = S3Server::start(conduct, tls).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let secret = secret_of(folder.path(), &server.keys());
        Self { kind: "s3", uri: server.uri("ml/billing/1"), secret: Some(secret), folder, server: Some(server) }
    }

    /// The store, as one process opens it.
    fn open(&self) -> Store {
        Store::open(&self.uri, self.secret.as_ref()).unwrap()
    }

    fn each() -> [Self; 2] {
        [Self::folder(), Self::s3(Conduct::OneAtATime, false)]
    }
}

fn secret_of(folder: &FilePath, keys: &[(&str, String)]) -> SecretFiles {
    for (key, value) in keys {
        std::fs::write(folder.join(key), value).unwrap();
    }
    SecretFiles::read(folder, &Redactor::default()).unwrap()
}

/// How many of `writers` processes that create one name at once are told that it was them.
async fn winners(place: &Place, name: &str, writers: usize) -> usize {
    let stores: Vec<Store> = (0..writers).map(|_| place.open()).collect();
    let racing = stores.iter().enumerate().map(|(n, store)| async move {
        let content = Bytes::from(format!("writer {n}").repeat(100));
        (store.create(name, content.clone()).await.unwrap(), content)
    });
    let won: Vec<Bytes> = join_all(racing)
        .await
        .into_iter()
        .filter_map(|(outcome, content)| (outcome == Creation::Created).then_some(content))
        .collect();
    let kept = place.open().read(name).await.unwrap().unwrap();
    assert!(won.contains(&kept), "{}: what is kept is nobody's", place.kind);
    won.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_created_once_and_never_changed() {
    for place in Place::each() {
        let store = place.open();
        assert_eq!(store.read("snapshot/manifest.json").await.unwrap(), None);
        assert_eq!(store.create("snapshot/manifest.json", "first".into()).await.unwrap(), Creation::Created);
        assert_eq!(store.create("snapshot/manifest.json", "second".into()).await.unwrap(), Creation::Existed);
        assert_eq!(place.open().read("snapshot/manifest.json").await.unwrap().unwrap(), "first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_and_of_sixteen_writers_of_one_name_exactly_one_wins() {
    for place in Place::each() {
        for (round, writers) in [2, 2, 2, 2, 16, 16].into_iter().enumerate() {
            assert_eq!(
                winners(&place, &format!("round/{round}"), writers).await,
                1,
                "{}: {writers} writers",
                place.kind
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_looks_and_then_writes_lets_several_win_and_is_refused() {
    let place = Place::s3(Conduct::AllAtOnce, false);
    assert!(winners(&place, "raced", 2).await > 1, "this server is not as unsafe as it should be");
    let error = place.open().probe().await.unwrap_err();
    assert!(matches!(error, StoreError::NotConditional { .. }), "{error}");
    assert_eq!(place.open().list("").await.unwrap().len(), 1, "the probe is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_store_passes_the_probe_and_is_left_as_it_was() {
    for place in Place::each() {
        place.open().probe().await.unwrap();
        assert_eq!(place.open().list("").await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_put_replaced_and_read() {
    for place in Place::each() {
        let store = place.open();
        let name = "rollouts/b1/7/pod/p1.diff";
        assert_eq!(store.read_data(name).await.unwrap(), None);
        for content in ["first", "second one", ""] {
            store.put(name, content.into()).await.unwrap();
            assert_eq!(store.read_data(name).await.unwrap().unwrap(), content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_listed_at_any_depth_in_order_and_without_its_neighbours() {
    for place in Place::each() {
        let store = place.open();
        assert_eq!(store.list("").await.unwrap(), []);
        let files = [
            ("r/b1/9/t1.json", "12345"),
            ("r/b1/10/t1.json", ""),
            ("r/b1/9/pod/p1.diff", "1"),
            ("r/b10/1/t1.json", "x"),
        ];
        for (name, content) in files {
            store.put(name, content.into()).await.unwrap();
        }
        let expected = [("r/b1/10/t1.json", 0), ("r/b1/9/pod/p1.diff", 1), ("r/b1/9/t1.json", 5)];
        let expected: Vec<(String, u64)> = expected.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        assert_eq!(store.list("r/b1").await.unwrap(), expected, "{}", place.kind);
        assert_eq!(store.list("").await.unwrap().len(), 4);
        assert_eq!(store.list("r/b2").await.unwrap(), []);
    }
}

#[tokio::test]
async fn unfinished_uploads_are_not_listed() {
    let place = Place::folder();
    place.open().put("r/t2.json", "whole".into()).await.unwrap();
    std::fs::write(place.folder.path().join("a store/r/t2.json#1"), "half").unwrap();
    assert_eq!(place.open().list("").await.unwrap(), [("r/t2.json".to_owned(), 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_part_and_of_many_arrive_whole_and_replace_what_was_there() {
    for place in Place::each() {
        let store = place.open();
        let (file, back) = (place.folder.path().join("file"), place.folder.path().join("back"));
        let step = Progress::detect().step("uploading");
        for bytes in [0, 9, MIN_PART, MIN_PART + 1, 3 * MIN_PART + 12_345] {
            let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            std::fs::write(&file, &content).unwrap();
            store.upload("a/b.bundle", &file, &step).await.unwrap();
            let digest = Some(Digest::of(&content));
            assert_eq!(store.digest("a/b.bundle", &step).await.unwrap(), digest);
            assert_eq!(store.download("a/b.bundle", &back, &step).await.unwrap(), digest);
            assert!(std::fs::read(&back).unwrap() == content, "{}: {bytes} bytes came back as others", place.kind);
        }
        assert_eq!(store.digest("a/missing", &step).await.unwrap(), None);
        std::fs::remove_file(&back).unwrap();
        assert_eq!(store.download("a/missing", &back, &step).await.unwrap(), None);
        assert!(!back.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_may_be_longer_than_a_document() {
    for place in Place::each() {
        let store = place.open();
        let content = Bytes::from(vec![7; usize::try_from(MAX_DOCUMENT).unwrap() + 1]);
        store.put("verified/b1/p.jsonl", content.clone()).await.unwrap();
        let error = store.read("verified/b1/p.jsonl").await.unwrap_err();
        assert!(matches!(error, StoreError::DocumentTooLong { .. }), "{error}");
        assert!(store.read_data("verified/b1/p.jsonl").await.unwrap() == Some(content));
    }
}

#[tokio::test]
async fn what_is_too_long_is_not_read_into_memory() {
    let place = Place::folder();
    place.open().put("huge", "x".into()).await.unwrap();
    std::fs::File::create(place.folder.path().join("a store/huge")).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(place.open().read("huge").await, Err(StoreError::DocumentTooLong { .. })));
    assert!(matches!(place.open().read_data("huge").await, Err(StoreError::DocumentTooLong { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_ca_of_its_own_is_trusted_with_the_ca_and_not_without() {
    let place = Place::s3(Conduct::OneAtATime, true);
    place.open().probe().await.unwrap();
    std::fs::remove_file(place.folder.path().join("ca.crt")).unwrap();
    let secret = SecretFiles::read(place.folder.path(), &Redactor::default()).unwrap();
    let error = Store::open(&place.uri, Some(&secret)).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, StoreError::UntrustedCertificate { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_refused_in_words() {
    let place = Place::s3(Conduct::OneAtATime, false);
    std::fs::write(place.folder.path().join("AWS_SECRET_ACCESS_KEY"), "wrong").unwrap();
    let wrong = SecretFiles::read(place.folder.path(), &Redactor::default()).unwrap();
    let error = Store::open(&place.uri, Some(&wrong)).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }) && error.to_string().contains("check the keys"), "{error}");
}

/// What is deleted goes by the URI that the store was opened at, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_erased_whole_and_its_neighbours_are_not_touched() {
    for place in Place::each() {
        let (own, above) = (format!("{}/3f2c", place.uri), place.open());
        let store = Store::open(&own, place.secret.as_ref()).unwrap();
        for name in ["snapshot/manifest.json", "rollouts/b1/0/t1.json", ".probe-1-1", "a b/ü"] {
            store.put(name, "12345".into()).await.unwrap();
        }
        for neighbour in ["3f2cc/t1.json", "3f2/t1.json", "77aa/snapshot/manifest.json"] {
            above.put(neighbour, "another's".into()).await.unwrap();
        }
        let step = || std::sync::Arc::new(Progress::detect().step("deleting"));
        assert_eq!(store.erase(step()).await.unwrap(), Erased { files: 4, bytes: 20 }, "{}", place.kind);
        assert_eq!(store.list("").await.unwrap(), []);
        assert_eq!(above.list("").await.unwrap().len(), 3, "{}", place.kind);
        assert_eq!(store.erase(step()).await.unwrap(), Erased::default(), "{}: a second time", place.kind);
    }
}

#[tokio::test]
async fn a_folder_goes_with_what_no_listing_shows_and_without_what_its_links_lead_to() {
    let place = Place::folder();
    let root = place.folder.path().join("a store");
    let elsewhere = place.folder.path().join("elsewhere");
    std::fs::create_dir_all(root.join("empty/deeper")).unwrap();
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(root.join("t2.json#1"), "half").unwrap();
    std::fs::write(elsewhere.join("t1.json"), "another's").unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("folder")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("t1.json"), root.join("file")).unwrap();
    let step = || std::sync::Arc::new(Progress::detect().step("deleting"));
    assert_eq!(place.open().erase(step()).await.unwrap().files, 3);
    assert!(!root.exists() && elsewhere.join("t1.json").exists());

    std::os::unix::fs::symlink(&elsewhere, &root).unwrap();
    let error = place.open().erase(step()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    assert!(elsewhere.join("t1.json").exists(), "the folder itself is a link");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_in_the_middle_of_a_bad_time_is_gone_on_with() {
    let place = Place::s3(Conduct::OneAtATime, false);
    let store = place.open();
    for sample in 0..40 {
        store.put(&format!("rollouts/b1/{sample}/t1.json"), "12345".into()).await.unwrap();
    }
    let server = place.server.as_ref().unwrap();
    server.make(Trouble::Refuses("sera".to_owned(), 403));
    let step = || std::sync::Arc::new(Progress::detect().step("deleting"));
    let error = store.erase(step()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert_eq!(store.list("").await.unwrap().len(), 40);
    // Whether the store had deleted anything by then, nobody knows.
    server.make(Trouble::Slow(std::time::Duration::from_secs(2)));
    let killed = tokio::time::timeout(std::time::Duration::from_millis(300), store.erase(step())).await;
    assert!(killed.is_err(), "it was done before it was killed");
    server.make(Trouble::Nothing);
    store.erase(step()).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
}
