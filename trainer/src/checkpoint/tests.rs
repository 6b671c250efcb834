//! Checkpoints as they are written, torn, found again and removed.

use std::net::TcpListener;
use std::path::Path;
use std::thread;

use super::*;
use crate::engine::{Parts as _, Share, UnitPlace, UnitState, Values, reshard};
use crate::ranks::{Alone, Collective, Master, Options, Place, join};

fn origin() -> Origin {
    Origin { plan: "plan".repeat(16), model: "model".repeat(13), dataset: "data".repeat(16) }
}

fn checkpoints(root: &Path, attempt: u32) -> Checkpoints {
    Checkpoints::new(root, Attempt { number: attempt, since: 1, origin: origin() })
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
    let mut sums = Sums { trained_tokens: u64::from(step) * 10, ..Sums::default() };
    if let Some(loss) = eval_loss {
        sums.evaluate(step, loss);
    }
    write_of(root, attempt, step, &sums)
}

fn write_of(root: &Path, attempt: u32, step: u32, sums: &Sums) -> PathBuf {
    let losses = format!("{{\"step\":{step}}}\n");
    let moment = Moment { step, total_steps: 9, sums, losses: losses.as_bytes() };
    checkpoints(root, attempt).write(moment, &state(step), &mut Alone).unwrap()
}

/// What rank `rank` of `world` goes on with.
fn read(checkpoint: &Checkpoint, rank: usize, world: usize) -> Vec<UnitState> {
    let stored = checkpoint.stored(rank, world).unwrap();
    let share = Share::new(&stored, rank, world).unwrap();
    let unit = |(at, place): (usize, UnitPlace)| {
        let Values { weights, mean, square } = share.values(at, &place.range).unwrap();
        UnitState { unit: place.unit, range: place.range, total: place.total, weights, mean, square }
    };
    share.places().unwrap().into_iter().enumerate().map(unit).collect()
}

/// What every rank of a ring comes to, each in a thread of its own.
fn on_ranks<T: Send>(world: usize, work: impl Fn(&mut dyn Collective) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank| {
        let master = Master { host: "127.0.0.1".into(), port };
        let place = Place { rank, world, local_rank: rank, master };
        work(&mut *join(&place, &Options::default()).unwrap())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..world).map(|number| scope.spawn(move || rank(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
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
    assert_eq!(read(&found, 0, 1), state(3));
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
        let error = Checkpoints::new(root.path(), Attempt { number: 2, since: 1, origin: other })
            .newest(&mut Alone)
            .unwrap_err()
            .to_string();
        assert!(error.contains(what) && error.contains("step-000001"), "{error}");
    }
}

#[test]
fn a_plan_that_was_put_right_begins_anew_and_a_retry_alone_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let seen = |number, since, origin| Checkpoints::new(root.path(), Attempt { number, since, origin });
    let step_of = |found: Option<Checkpoint>| found.map(|found| found.manifest.step);
    let corrected = || Origin { plan: "x".to_owned(), ..origin() };
    write(root.path(), 1, 7, Some(0.1));
    write(root.path(), 1, 8, None);
    let newest = |number, since, origin| seen(number, since, origin).newest(&mut Alone).map(step_of);
    assert_eq!(newest(2, 2, origin()).unwrap(), Some(8), "what was not changed goes on");
    assert_eq!(newest(2, 2, corrected()).unwrap(), None);
    for (what, other) in [
        ("another dataset", Origin { dataset: "x".to_owned(), ..corrected() }),
        ("another base model", Origin { model: "x".to_owned(), ..corrected() }),
    ] {
        let error = newest(2, 2, other).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let moment = Moment { step: 1, total_steps: 9, sums: &Sums::default(), losses: b"" };
    seen(2, 2, corrected()).write(moment, &state(1), &mut Alone).unwrap();
    assert_eq!((names(root.path(), 1), names(root.path(), 2)), (Vec::new(), vec!["step-000001".to_owned()]));
    assert_eq!(newest(3, 2, corrected()).unwrap(), Some(1));
    assert!(matches!(newest(3, 2, origin()), Err(CheckpointError::Foreign { .. })), "it is of the present plan");
}

#[test]
fn what_cannot_be_read_for_now_ends_all_ranks_and_no_older_one_is_taken() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), 1, 1, None);
    let last = write(root.path(), 1, 2, None);
    for name in ["manifest.json", "losses.jsonl"] {
        let (file, aside) = (last.join(name), last.join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        // A link to itself is there and cannot be read, by nobody.
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let alone = checkpoints(root.path(), 2).newest(&mut Alone);
        assert!(matches!(alone, Err(CheckpointError::Read { .. })), "{name}: {alone:?}");
        let both = on_ranks(2, |ranks| checkpoints(root.path(), 2).newest(ranks));
        assert!(matches!(both[1], Err(CheckpointError::Read { .. })), "{name}: {both:?}");
        let first = matches!(both[0], Err(CheckpointError::NotBrought { .. } | CheckpointError::Read { .. }));
        assert!(first, "{name}: {both:?}");
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    }
    assert_eq!(newest(root.path()).unwrap().manifest.step, 2);
}

#[test]
fn what_was_passed_over_takes_no_fresh_ones_place() {
    let root = tempfile::tempdir().unwrap();
    for (step, eval_loss) in [(40, Some(0.3)), (80, None), (90, None), (100, None)] {
        let folder = write(root.path(), 1, step, eval_loss);
        if step > 40 {
            std::fs::remove_file(folder.join("rank-0000-of-0001.safetensors")).unwrap();
        }
    }
    assert_eq!(newest(root.path()).unwrap().manifest.step, 40);
    write(root.path(), 2, 50, None);
    assert_eq!(names(root.path(), 2), ["step-000050"]);
    for step in [60, 70, 75] {
        write(root.path(), 2, step, None);
    }
    assert_eq!(names(root.path(), 2), ["step-000060", "step-000070", "step-000075"]);
    assert_eq!(names(root.path(), 1), ["step-000040", "step-000080", "step-000090", "step-000100"]);
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
fn the_best_is_what_was_looked_at_itself_and_not_what_was_written_after_it() {
    let root = tempfile::tempdir().unwrap();
    let mut sums = Sums::default();
    assert!(sums.evaluate(1, 0.5) && !sums.evaluate(1, 0.5) && sums.evaluate(2, 0.3) && !sums.evaluate(2, f64::NAN));
    sums.evaluate(2, 0.3);
    write_of(root.path(), 1, 2, &sums);
    write_of(root.path(), 1, 3, &sums);
    for step in 4..=6 {
        write(root.path(), 1, step, Some(0.4));
    }
    assert_eq!(names(root.path(), 1), ["step-000002", "step-000004", "step-000005", "step-000006"]);
    assert_eq!(sums.best_eval_loss, Some(0.3));
}

#[test]
fn written_by_four_and_gone_on_from_by_two_and_by_four_again_it_is_the_same_to_the_bit() {
    let root = tempfile::tempdir().unwrap();
    let unit = |name: &str, total: u8| {
        let values = |offset: f32| (0..total).map(|at| f32::from(at) * 0.37 + offset).collect::<Vec<_>>();
        let (weights, mean, square) = (values(0.1), values(-3.0), values(1e-9));
        UnitState { unit: name.to_owned(), range: 0..usize::from(total), total: total.into(), weights, mean, square }
    };
    // Of the last one two ranks of four have nothing.
    let whole = [unit("model.embed_tokens", 201), unit("model.layers.0", 150), unit("head", 2)];
    let [two, four] = [2, 4].map(|world| reshard(&whole, world).unwrap());
    let sums = Sums { tokens: 77, loss: Some(0.1), ..Sums::default() };
    let moment = Moment { step: 5, total_steps: 9, sums: &sums, losses: b"{\"step\":5}\n" };
    let write = |attempt: u32, states: &[Vec<UnitState>]| {
        let all = checkpoints(root.path(), attempt);
        let folders = on_ranks(states.len(), |ranks| all.write(moment, &states[ranks.rank()], ranks).unwrap());
        folders[0].clone()
    };
    let newest = |world: usize| {
        on_ranks(world, |ranks| {
            let found = checkpoints(root.path(), 9).newest(ranks).unwrap().unwrap();
            assert_eq!((found.manifest.step, &found.manifest.sums), (5, &sums));
            assert_eq!(found.losses().unwrap(), moment.losses);
            read(&found, ranks.rank(), ranks.world())
        })
    };
    let first = write(1, &four);
    let on_two = newest(2);
    assert_eq!(on_two, two);
    write(2, &on_two);
    let on_four = newest(4);
    assert_eq!(on_four, four);
    let again = write(3, &on_four);
    for rank in 0..4 {
        let part = folder::part(rank, 4);
        let bytes = |folder: &Path| std::fs::read(folder.join(&part)).unwrap();
        assert!(bytes(&again) == bytes(&first), "{part} is another one");
    }
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
