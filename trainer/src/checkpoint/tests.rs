//! Checkpoints as they are written, torn, found again and removed.

use std::path::Path;

use super::*;
use crate::engine::UnitState;
use crate::ranks::Alone;

fn origin() -> Origin {
    Origin { plan: "plan".repeat(16), model: "model".repeat(13), dataset: "data".repeat(16) }
}

fn checkpoints(root: &Path, attempt: u32) -> Checkpoints {
    Checkpoints::new(root, attempt, origin())
}

fn state(step: u32) -> Vec<UnitState> {
    let values = |offset: u8| vec![f32::from(u8::try_from(step).unwrap()) + f32::from(offset); 1000];
    let unit = |name: &str| UnitState {
        unit: name.to_owned(),
        range: 0..1000,
        total: 1000,
        weights: values(1),
        mean: values(2),
        square: values(3),
    };
    vec![unit("embedding"), unit("layers.0")]
}

fn write(root: &Path, attempt: u32, step: u32, eval_loss: Option<f64>) -> PathBuf {
    let sums = Sums { trained_tokens: u64::from(step) * 10, eval_loss, ..Sums::default() };
    let losses = format!("{{\"step\":{step}}}\n");
    let moment = Moment { step, total_steps: 9, sums: &sums, losses: losses.as_bytes() };
    checkpoints(root, attempt).write(moment, &state(step), &mut Alone).unwrap()
}

fn newest(root: &Path) -> Option<Checkpoint> {
    checkpoints(root, 7).newest(&mut Alone).unwrap()
}

fn names(root: &Path, attempt: u32) -> Vec<String> {
    let mut names: Vec<String> =
        folder::entries(&root.join(format!("a{attempt}"))).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[test]
fn the_newest_of_any_attempt_is_found_with_all_that_was_kept() {
    let root = tempfile::tempdir().unwrap();
    assert!(newest(root.path()).is_none());
    write(root.path(), 1, 2, None);
    let folder = write(root.path(), 2, 3, Some(0.5));
    write(root.path(), 3, 1, None);
    let found = newest(root.path()).unwrap();
    assert_eq!((&found.folder, found.manifest.step, found.manifest.world), (&folder, 3, 1));
    assert_eq!((found.manifest.sums.trained_tokens, found.manifest.sums.eval_loss), (30, Some(0.5)));
    assert_eq!(found.part(0).unwrap(), state(3));
    assert_eq!(found.losses().unwrap(), b"{\"step\":3}\n");
    assert_eq!(names(root.path(), 2), ["step-000003"], "nothing is left beside it");
}

#[test]
fn whatever_is_torn_off_the_newest_the_one_before_it_is_taken() {
    type Tear = fn(&Path) -> std::io::Result<()>;
    let part = |folder: &Path| folder.join("rank-0000-of-0001.safetensors");
    let tears: [(&str, Tear); 8] = [
        ("one letter of the manifest is another one", |path| {
            let manifest = path.with_file_name("manifest.json");
            let text = std::fs::read_to_string(&manifest)?;
            std::fs::write(manifest, text.replace("planplan\"", "planplam\""))
        }),
        ("the part is cut", |path| std::fs::File::options().write(true).open(path)?.set_len(5000)),
        ("one bit of the part is turned", |path| {
            let mut content = std::fs::read(path)?;
            let middle = content.len() / 2;
            content[middle] ^= 1;
            std::fs::write(path, content)
        }),
        ("the part is missing", |path| std::fs::remove_file(path)),
        ("the part is empty", |path| std::fs::write(path, b"")),
        ("the manifest is cut", |path| {
            std::fs::File::options().write(true).open(path.with_file_name("manifest.json"))?.set_len(100)
        }),
        ("the manifest is missing", |path| std::fs::remove_file(path.with_file_name("manifest.json"))),
        ("the losses are other ones", |path| std::fs::write(path.with_file_name("losses.jsonl"), b"{\"step\":9}\n")),
    ];
    for (what, tear) in tears {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), 1, 1, None);
        let last = write(root.path(), 1, 2, None);
        tear(&part(&last)).unwrap();
        assert_eq!(newest(root.path()).unwrap().manifest.step, 1, "{what}");
        write(root.path(), 1, 2, None);
        assert_eq!(newest(root.path()).unwrap().manifest.step, 2, "the step is written again where {what}");
    }
}

#[test]
fn what_was_not_finished_does_not_count_and_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let whole = write(root.path(), 1, 1, None);
    std::fs::rename(&whole, whole.with_file_name(".step-000002.tmp")).unwrap();
    assert!(newest(root.path()).is_none());
    write(root.path(), 2, 3, None);
    assert!(names(root.path(), 1).is_empty());
}

#[test]
fn what_earlier_attempts_left_is_gone_before_the_first_byte_of_the_next_is_written() {
    let root = tempfile::tempdir().unwrap();
    for left in ["a1/.step-000002.tmp", "a2/.step-000001.tmp", "a2/.step-000003.tmp", "a3/.step-000004.tmp"] {
        std::fs::create_dir_all(root.path().join(left)).unwrap();
        std::fs::write(root.path().join(left).join("rank-0000-of-0001.safetensors"), b"half").unwrap();
    }
    let unfinished = root.path().join("a2/.step-000003.tmp");
    checkpoints(root.path(), 2).begin(&unfinished).unwrap();
    assert!(names(root.path(), 1).is_empty());
    assert_eq!(names(root.path(), 2), [".step-000003.tmp"]);
    assert!(folder::entries(&unfinished).unwrap().is_empty());
    assert_eq!(names(root.path(), 3), [".step-000004.tmp"], "a later attempt may be writing it");
}

#[test]
fn a_write_that_fails_leaves_nothing_that_takes_room() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), 1, 1, None);
    std::fs::write(root.path().join("a1/step-000002"), b"a file in the way").unwrap();
    let moment = Moment { step: 2, total_steps: 9, sums: &Sums::default(), losses: b"" };
    let error = checkpoints(root.path(), 1).write(moment, &state(2), &mut Alone).unwrap_err();
    assert!(error.to_string().contains("a1/step-000002 cannot be written"), "{error}");
    assert_eq!(names(root.path(), 1), ["step-000001", "step-000002"], "the part that was written is gone");
}

#[test]
fn a_checkpoint_of_another_training_is_refused_by_what_differs() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), 1, 1, None);
    let mut others = [origin(), origin(), origin()];
    others[0].plan = "x".to_owned();
    others[1].model = "x".to_owned();
    others[2].dataset = "x".to_owned();
    for (other, what) in others.into_iter().zip(["another plan", "another base model", "another dataset"]) {
        let error = Checkpoints::new(root.path(), 2, other).newest(&mut Alone).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("step-000001"), "{error}");
    }
}

#[test]
fn the_last_three_and_the_best_stay() {
    let root = tempfile::tempdir().unwrap();
    for (step, eval_loss) in [(1, None), (2, Some(0.3)), (3, Some(f64::NAN)), (4, Some(0.4)), (5, None), (6, Some(0.5))]
    {
        write(root.path(), if step < 4 { 1 } else { 2 }, step, eval_loss);
    }
    assert_eq!(names(root.path(), 1), ["step-000002"]);
    assert_eq!(names(root.path(), 2), ["step-000004", "step-000005", "step-000006"]);
}

#[test]
fn where_nothing_can_be_written_the_folder_is_named_and_the_last_good_one_stays() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), 1, 1, None);
    std::fs::write(root.path().join("a2"), b"a file in the way").unwrap();
    let moment = Moment { step: 2, total_steps: 9, sums: &Sums::default(), losses: b"" };
    let error = checkpoints(root.path(), 2).write(moment, &state(2), &mut Alone).unwrap_err();
    assert!(error.to_string().contains("a2/step-000002 cannot be written"), "{error}");
    std::fs::remove_file(root.path().join("a2")).unwrap();
    assert_eq!(newest(root.path()).unwrap().manifest.step, 1);
}
