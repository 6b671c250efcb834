//! A rank's part of a checkpoint as a safetensors file: three f32 tensors a unit, `<unit>.weights`, `.mean` and `.square`, and beside each unit's
//! name which of its values they are. It is written and read a unit at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sera_crds::contract::FileDigest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use crate::engine::{EngineError, Parts, UnitPlace, Values};

/// The three tensors of a unit, in the order of the file and of [`Values::kinds`].
const KINDS: [&str; 3] = ["weights", "mean", "square"];
/// What their values are.
const DTYPE: &str = "F32";
/// The bytes of one of them.
const WIDTH: usize = size_of::<f32>();
/// How many values are turned into bytes at once, and back.
const PIECE: usize = 64 * 1024;

/// A tensor's entry in the header.
#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header: what each tensor is, and of which values of its unit. In the order of names, so that the same state is the same file.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    units: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

/// Writes a state to a file, syncs it, and says what it has.
pub(super) fn write(path: &Path, state: &dyn Parts<Error = EngineError>) -> std::io::Result<FileDigest> {
    let file = File::create(path)?;
    let mut output = Digesting { output: BufWriter::new(&file), digest: Sha256::new(), bytes: 0 };
    let places = state.places().map_err(std::io::Error::other)?;
    let header = header(&places)?;
    output.put(&(header.len() as u64).to_le_bytes())?;
    output.put(&header)?;
    for (at, place) in places.iter().enumerate() {
        let values = state.values(at, &place.range).map_err(std::io::Error::other)?;
        for values in values.kinds() {
            for piece in values.chunks(PIECE) {
                let bytes: Vec<u8> = piece.iter().flat_map(|value| value.to_le_bytes()).collect();
                output.put(&bytes)?;
            }
        }
    }
    output.output.flush()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = FileDigest { name, bytes: output.bytes, sha256: hex::encode(output.digest.finalize()) };
    drop(output.output);
    file.sync_all()?;
    Ok(digest)
}

/// The header's bytes, filled up with spaces so that the data begins at a multiple of eight, as the format wants it.
fn header(places: &[UnitPlace]) -> std::io::Result<Vec<u8>> {
    let mut header = Header { units: BTreeMap::new(), tensors: BTreeMap::new() };
    let mut begin = 0;
    for UnitPlace { unit, range, total } in places {
        header.units.insert(unit.clone(), format!("{}..{} of {total}", range.start, range.end));
        for kind in KINDS {
            let end = begin + range.len() * WIDTH;
            let entry = Entry { dtype: DTYPE.to_owned(), shape: vec![range.len()], data_offsets: (begin, end) };
            header.tensors.insert(format!("{unit}.{kind}"), entry);
            begin = end;
        }
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}

/// A part that is there, of which its header has been read.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    /// What it has of each unit, in the order of their names, and at which byte of the file each kind of value begins.
    units: Vec<(UnitPlace, [u64; 3])>,
}

impl Part {
    /// Reads a file's header, and refuses one that is not what is in the file.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |source| CheckpointError::Read { path: path.to_owned(), source };
        let damaged = |problem: String| CheckpointError::Damaged { path: path.to_owned(), problem };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut first = [0; 8];
        file.read_exact_at(&mut first, 0).map_err(unreadable)?;
        let header_length = u64::from_le_bytes(first);
        let data = header_length.saturating_add(8);
        if data > length {
            return Err(damaged(format!("its header of {header_length} bytes is longer than the file")));
        }
        let mut header = vec![0; usize::try_from(header_length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut header, 8).map_err(unreadable)?;
        let header: Header = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let mut units = Vec::with_capacity(header.units.len());
        for (unit, place) in &header.units {
            let (range, total) = parsed(place).map_err(&damaged)?;
            let mut begins = [0; 3];
            for (begin, kind) in begins.iter_mut().zip(KINDS) {
                let name = format!("{unit}.{kind}");
                let found = header.tensors.get(&name).and_then(|entry| entry.begin(range.len(), length - data));
                let Some(found) = found else {
                    return Err(damaged(format!("it has not {} values `{name}`", range.len())));
                };
                *begin = data + found;
            }
            units.push((UnitPlace { unit: unit.clone(), range, total }, begins));
        }
        Ok(Self { path: path.to_owned(), units })
    }

    /// What it has of each unit.
    pub(super) fn places(&self) -> impl Iterator<Item = &UnitPlace> {
        self.units.iter().map(|(place, _)| place)
    }

    /// Adds to `values` those of `range`, which are in place number `at`.
    pub(super) fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), CheckpointError> {
        let (place, begins) = &self.units[at];
        let skipped = ((range.start - place.range.start) * WIDTH) as u64;
        // Opened anew each time: there may be a thousand parts.
        let read = File::open(&self.path).and_then(|file| {
            let mut kinds = begins.iter().zip(values.kinds_mut());
            kinds.try_for_each(|(begin, values)| floats(&file, begin + skipped, range.len(), values))
        });
        read.map_err(|source| CheckpointError::Read { path: self.path.clone(), source })
    }
}

impl Entry {
    /// Where it begins among so many bytes of data; nowhere, if it is not that of so many values.
    fn begin(&self, values: usize, bytes: u64) -> Option<u64> {
        let (begin, end) = self.data_offsets;
        let long = end.checked_sub(begin)? == values.checked_mul(WIDTH)?;
        (self.dtype == DTYPE && long && end as u64 <= bytes).then_some(begin as u64)
    }
}

/// Which values of how many `3..6 of 11` says.
fn parsed(place: &str) -> Result<(Range<usize>, usize), String> {
    let wrong = || format!("`{place}` is no range");
    let (range, total) = place.split_once(" of ").ok_or_else(wrong)?;
    let (start, end) = range.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is no number"));
    let (range, total) = (number(start)?..number(end)?, number(total)?);
    if range.start <= range.end && range.end <= total { Ok((range, total)) } else { Err(wrong()) }
}

/// Adds so many values, which begin at a byte of a file.
fn floats(file: &File, begin: u64, count: usize, values: &mut Vec<f32>) -> std::io::Result<()> {
    let mut bytes = vec![0; PIECE.min(count) * WIDTH];
    for done in (0..count).step_by(PIECE) {
        let piece = &mut bytes[..PIECE.min(count - done) * WIDTH];
        file.read_exact_at(piece, begin + (done * WIDTH) as u64)?;
        values.extend(piece.as_chunks::<WIDTH>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(())
}

/// A file that is digested while it is written.
struct Digesting<W> {
    output: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.output.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;
    use crate::engine::UnitState;

    fn unit(name: &str, from: usize, count: u8) -> UnitState {
        let values = |offset: f32| (0..count).map(|n| f32::from(n) + offset).collect::<Vec<_>>();
        let range = from..from + usize::from(count);
        let (weights, mean, square) = (values(0.5), values(-1.0), values(7e-9));
        UnitState { unit: name.to_owned(), range, total: 100, weights, mean, square }
    }

    #[test]
    fn a_part_is_read_as_it_was_written_and_is_a_safetensors_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.safetensors");
        let units = vec![unit("model.norm", 40, 3), unit("layers.1", 0, 0), unit("layers.0", 5, 9), unit("a", 0, 1)];
        let digest = write(&path, &units).unwrap();
        assert_eq!(digest, durable::digest(&path).unwrap());
        let part = Part::open(&path).unwrap();
        for (at, place) in part.places().enumerate() {
            let written = units.iter().find(|unit| unit.unit == place.unit).unwrap();
            assert_eq!((&place.range, place.total), (&written.range, 100));
            let mut values = Values::default();
            part.read(at, &place.range, &mut values).unwrap();
            assert_eq!(values.kinds(), [&written.weights[..], &written.mean[..], &written.square[..]]);
        }
        let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
        assert_eq!(tensors["layers.0.square"].to_vec1::<f32>().unwrap(), units[2].square);
    }

    #[test]
    fn a_range_is_read_and_nothing_before_or_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.safetensors");
        let units = vec![unit("a", 10, 20), unit("b", 40, 30)];
        write(&path, &units).unwrap();
        let mut values = Values::default();
        Part::open(&path).unwrap().read(1, &(45..48), &mut values).unwrap();
        assert_eq!(values.kinds(), [&units[1].weights[5..8], &units[1].mean[5..8], &units[1].square[5..8]]);
    }

    #[test]
    fn a_header_that_is_not_that_of_its_file_is_refused_before_a_value_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.safetensors");
        write(&path, &vec![unit("a", 10, 20)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let refused = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Part::open(&path).unwrap_err().to_string()
        };
        let replaced = |from: &str, to: &str| {
            let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
        };
        let short = refused(&whole[..whole.len() - 1]);
        assert!(short.ends_with("is damaged: it has not 20 values `a.square`"), "{short}");
        let longer = refused(&replaced("10..30", "10..31"));
        assert!(longer.ends_with("it has not 21 values `a.weights`"), "{longer}");
        let turned = refused(&replaced("10..30", "40..30"));
        assert!(turned.ends_with("`40..30 of 100` is no range"), "{turned}");
        let other = refused(&replaced("F32", "I32"));
        assert!(other.ends_with("it has not 20 values `a.mean`"), "{other}");
    }
}
