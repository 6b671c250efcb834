//! A training over a bucket is killed at random moments, in the middle of uploads among them, objects are damaged or missing now and then, and it
//! always goes on, to the same weights to the bit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sera_test_servers::Trouble;

use crate::fixture::{lora, plan, said};
use crate::support::{Training, ends, folders, succeed, together};

/// How often it is killed.
const KILLS: u32 = 24;
/// Every how many kills something in the bucket is damaged too.
const TORN: u32 = 4;
/// How long a write takes: several steps, so that most kills fall into one.
const WRITE: Duration = Duration::from_millis(40);
/// How long a rank waits for one that was killed before they met.
const START: &str = "5s";
/// The shortest that it is left alone; the longest is this part of the undisturbed training's time.
const SHORTEST: Duration = Duration::from_millis(150);
const LIVES: u32 = 3;

/// The same moments each time, as far as a clock repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Cuts, garbles or takes away one of the objects of the newest complete checkpoint, and says which.
fn tear(training: &Training, random: &mut Random) -> Option<String> {
    let step = *training.complete("run").last()?;
    let folder = training.objects("run").join(format!("checkpoints/a1/step-{step:06}"));
    let files: Vec<PathBuf> = folders(&folder);
    let path = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
    let mut content = std::fs::read(path).unwrap();
    let place = usize::try_from(random.below(content.len() as u64)).unwrap();
    match random.below(3) {
        0 => content.truncate(place),
        1 => content[place] ^= 0x10,
        _ => {
            std::fs::remove_file(path).unwrap();
            return Some(path.display().to_string());
        }
    }
    std::fs::write(path, content).unwrap();
    Some(path.display().to_string())
}

#[test]
fn killed_at_random_moments_it_always_goes_on_to_the_same_weights() {
    let training = Training::new(12, plan(&lora(), 12));
    training.in_folder("undisturbed", 2);
    training.server.make(Trouble::Slow(WRITE));
    let begun = Instant::now();
    let rank = |name: &str| {
        let mut command = training.command(name, "scratch");
        command.env("SERA_START_DEADLINE", START);
        command
    };
    let ranks = |name: &str| together([rank(name), rank(name)].into_iter());
    succeed(ranks("quiet"));
    training.compare("quiet", "undisturbed");
    let life = u64::try_from((begun.elapsed() / LIVES).as_micros()).unwrap();

    let mut random = Random(42);
    let (mut torn, mut passed_over, mut went_on, mut kills) = (0, 0, 0, 0);
    while kills < KILLS {
        let mut children = ranks("run");
        std::thread::sleep(SHORTEST + Duration::from_micros(random.below(life)));
        // One rank or both: a rank that is left alone ends by itself.
        let both = random.below(2) == 0;
        let one = usize::try_from(random.below(2)).unwrap();
        for (number, child) in children.iter_mut().enumerate() {
            if both || number == one {
                child.kill().unwrap();
            }
        }
        kills += 1;
        let outputs = ends(children);
        passed_over += u32::from(outputs.iter().any(|output| said(output).contains("is passed over")));
        went_on += u32::from(outputs.iter().any(|output| said(output).contains("goes on")));
        if outputs.iter().all(|output| output.status.success()) {
            // It was done too soon, and begins again.
            training.compare("run", "undisturbed");
            std::fs::remove_dir_all(training.objects("run")).unwrap();
            continue;
        }
        for output in &outputs {
            assert!(matches!(output.status.code(), None | Some(0 | 11)), "it ended by itself: {}", said(output));
        }
        if kills % TORN == 0 {
            torn += u32::from(tear(&training, &mut random).is_some());
        }
    }
    succeed(ranks("run"));
    training.compare("run", "undisturbed");
    let abandoned = training.server.abandoned();
    let seen = format!("torn {torn}, passed over {passed_over}, went on {went_on}, writes abandoned {abandoned}");
    println!("{seen}");
    assert!(torn > 2 && passed_over > 0 && went_on > 5 && abandoned > 5, "{seen}");
}
