//! Pairs of patches from a file of JSON lines, a line of JSON for each, in the same order, on several threads. It holds a few megabytes of the file
//! at a time, and answers a pipe line by line. A line that is no pair is named and left out; the others are measured all the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Deserialize;
use serde::de::{Error as _, Visitor};
use serde_json::Value;

use super::{Criterion, PairReport};

/// How many bytes of lines are measured at once: enough to keep the threads busy between two writes.
const BATCH: usize = 4 << 20;
/// The longest line, in bytes: a pair of patches of 100 MB each, escaped. What is longer is no patch, and not held in memory.
const MAX_LINE: u64 = 256 << 20;

/// Why pairs are not measured to the end.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// The input fails.
    #[error("{name} cannot be read: {source}")]
    Input {
        /// What was read.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The output does.
    #[error("the measures cannot be written to standard output: {0}")]
    Output(#[source] std::io::Error),
    /// The threads cannot be started.
    #[error("the threads cannot be started: {0}")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

/// A line that is no pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// Measures every pair of `input` (`name` in messages) and writes a line for each. Tells what is wrong with lines that are none to `bad`.
pub fn measure_all<R: Read + Send>(
    input: R,
    name: &str,
    output: &mut dyn Write,
    threads: NonZeroUsize,
    criterion: Option<&Criterion>,
    bad: &mut dyn FnMut(BadLine),
) -> Result<(), PairsError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build().map_err(PairsError::Threads)?;
    // One batch is measured while the next is read.
    let (sender, receiver) = sync_channel(1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(BufReader::with_capacity(1 << 16, input), sender));
        let written = write(&pool, receiver, output, criterion, bad);
        let read = reader.join().unwrap_or_else(|_| Err(std::io::Error::other("the reading thread has panicked")));
        written.map_err(PairsError::Output)?;
        read.map_err(|source| PairsError::Input { name: name.to_owned(), source })
    })
}

/// One line of the input.
struct NumberedLine {
    number: u64,
    content: Content,
}

enum Content {
    Whole(Vec<u8>),
    TooLong,
}

/// Reads lines into batches until the input ends or nobody wants them any more.
#[expect(clippy::needless_pass_by_value, reason = "its end is how the others know that no more comes")]
fn read<R: Read>(mut input: BufReader<R>, batches: SyncSender<Vec<NumberedLine>>) -> std::io::Result<()> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for number in 1.. {
        let Some(content) = read_line(&mut input)? else { break };
        if let Content::Whole(line) = &content {
            bytes += line.len();
        }
        batch.push(NumberedLine { number, content });
        // Where no more has arrived, whoever writes may wait for an answer.
        if bytes >= BATCH || input.buffer().is_empty() {
            if batches.send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
    }
    // Whether anybody still listens makes no difference at the end.
    let _ = batches.send(batch);
    Ok(())
}

/// The next line with its end; none at the end of the input. Of a line that is too long nothing is kept.
fn read_line<R: Read>(input: &mut BufReader<R>) -> std::io::Result<Option<Content>> {
    let mut line = Vec::new();
    if input.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        return Ok(Some(Content::TooLong));
    }
    Ok(Some(Content::Whole(line)))
}

/// Measures batches as they come and writes their lines in order.
fn write(
    pool: &ThreadPool,
    batches: Receiver<Vec<NumberedLine>>,
    output: &mut dyn Write,
    criterion: Option<&Criterion>,
    bad: &mut dyn FnMut(BadLine),
) -> std::io::Result<()> {
    for batch in batches {
        let measured: Vec<_> = pool.install(|| batch.par_iter().map(|line| measure_line(line, criterion)).collect());
        for line in measured {
            match line {
                Ok(line) => output.write_all(&line)?,
                Err(line) => bad(line),
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// The line to write for one that was read; nothing for a blank one.
fn measure_line(line: &NumberedLine, criterion: Option<&Criterion>) -> Result<Vec<u8>, BadLine> {
    let NumberedLine { number, content } = line;
    let problem = |problem: String| BadLine { number: *number, problem };
    let Content::Whole(line) = content else {
        return Err(problem(format!("it is longer than {MAX_LINE} bytes")));
    };
    if line.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let Pair { id, p1, p2 } = serde_json::from_slice(line).map_err(|error| problem(error.to_string()))?;
    let [first, second] = [p1, p2].map(|patch| patch.map(|Text(bytes)| bytes).unwrap_or_default());
    let report = PairReport::of(Some(id), &first, &second, criterion);
    let mut written = serde_json::to_vec(&report).map_err(|error| problem(error.to_string()))?;
    written.push(b'\n');
    Ok(written)
}

/// A line of pairs. What else is in it is nobody's business.
#[derive(Deserialize)]
struct Pair {
    /// Whatever names the pair.
    id: Value,
    /// The first patch; null is an empty one, and nothing at all a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    p1: Option<Text>,
    /// The second patch, likewise.
    #[serde(deserialize_with = "Option::deserialize")]
    p2: Option<Text>,
}

/// A JSON string as bytes: half a surrogate pair, which Python writes and reads, and bytes that are no UTF-8 come through as they are.
struct Text(Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a patch (a string, or null for an empty one)")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;

    /// What comes out, and the numbers of the lines that are no pairs.
    fn run(input: &[u8], threads: usize) -> (Vec<Value>, Vec<u64>) {
        let (mut output, mut bad) = (Vec::new(), Vec::new());
        let threads = NonZeroUsize::new(threads).unwrap();
        measure_all(input, "pairs.jsonl", &mut output, threads, None, &mut |line| bad.push(line.number)).unwrap();
        (output.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect(), bad)
    }

    #[test]
    fn lines_come_out_in_the_order_in_which_they_went_in() {
        let input: String =
            (0..20_000).map(|n| format!("{{\"p2\":\"+{n}\",\"id\":{n},\"p1\":\"+{n}\\n+x\"}}\n")).collect();
        for threads in [1, 4] {
            let (output, bad) = run(input.as_bytes(), threads);
            let ids: Vec<u64> = output.iter().map(|line| line["id"].as_u64().unwrap()).collect();
            assert!(ids == (0..20_000).collect::<Vec<_>>() && bad.is_empty());
            assert!(output.iter().all(|line| line["recall"] == 0.5 && line["total"] == 2));
        }
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_are_measured() {
        let input = b"{\"id\":\"a\",\"p1\":\"+x\",\"p2\":\"+x\"}\nnonsense\n\n{\"id\":\"b\",\"p1\":\"+x\"}\n{\"p1\":\"\",\"p2\":\"\"}\n\
            {\"id\":\"c\",\"p1\":7,\"p2\":\"\"}\n{\"id\":\"d\",\"p1\":\"+x\",\"p2\":null,\"note\":[1]}";
        let (output, bad) = run(input, 2);
        let ids: Vec<&Value> = output.iter().map(|line| &line["id"]).collect();
        assert_eq!(ids, ["a", "d"]);
        assert_eq!(bad, [2, 4, 5, 6]);
    }

    #[test]
    fn bytes_that_are_no_utf8_and_half_surrogates_come_through() {
        let input = b"{\"id\":1,\"p1\":\"+\xff\\n+\xfe\\n+\\ud800\",\"p2\":\"+\xff\\n+\\ud800\"}\n";
        let (output, _) = run(input, 1);
        assert_eq!((&output[0]["matched"], &output[0]["total"]), (&2.into(), &3.into()));
    }

    proptest::proptest! {
        #[test]
        fn every_line_is_answered_or_named_whatever_it_is(
            lines in proptest::collection::vec(
                proptest::prop_oneof![
                    "[ -~\u{e9}\u{0}\u{2028}]{0,40}".prop_map(String::into_bytes),
                    proptest::collection::vec(1u8.., 0..40).prop_map(|line| line.into_iter().filter(|byte| *byte != b'\n').collect()),
                    r#"\{"id":(1|"a"|null|\[1\]),"p1":("[+a\\n-]{0,6}"|null|7),"p2":"[+a-]{0,6}"\}?"#.prop_map(String::into_bytes),
                ],
                0..20,
            ),
        ) {
            let asked = lines.iter().filter(|line| !line.trim_ascii().is_empty()).count();
            let (output, bad) = run(&lines.join(&b'\n'), 2);
            proptest::prop_assert_eq!(output.len() + bad.len(), asked);
        }
    }

    #[test]
    fn a_pipe_is_answered_before_it_ends() {
        use std::os::unix::net::UnixStream;
        let ((mut asking, input), (answers, output)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut output = output;
                measure_all(input, "-", &mut output, NonZeroUsize::MIN, None, &mut |_| ()).unwrap();
            });
            let mut answers = BufReader::new(answers).lines();
            for n in 0..3 {
                writeln!(asking, "{{\"id\":{n},\"p1\":\"+a\",\"p2\":\"\"}}").unwrap();
                assert!(answers.next().unwrap().unwrap().starts_with(&format!("{{\"id\":{n},\"recall\":0.0")));
            }
            drop(asking);
            assert!(answers.next().is_none());
        });
    }
}
