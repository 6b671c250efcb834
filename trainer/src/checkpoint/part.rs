//! A rank's part of a checkpoint as a safetensors file: three f32 tensors a unit, `<unit>.weights`, `.mean` and `.square`, and beside each unit's
//! name which of its values they are.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use sera_crds::contract::FileDigest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use crate::engine::UnitState;

/// The three tensors of a unit, in the order of the file.
const KINDS: [&str; 3] = ["weights", "mean", "square"];
/// The bytes of an f32.
const WIDTH: usize = size_of::<f32>();
/// How many values are turned into bytes at once.
const PIECE: usize = 64 * 1024;

/// A tensor's entry in the header.
#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header: what each tensor is, and of which values of its unit.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    units: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: HashMap<String, Entry>,
}

/// Writes units to a file, syncs it, and says what it has.
pub(super) fn write(path: &Path, units: &[UnitState]) -> std::io::Result<FileDigest> {
    let file = File::create(path)?;
    let mut output = Digesting { output: BufWriter::new(&file), digest: Sha256::new(), bytes: 0 };
    let header = header(units)?;
    output.put(&(header.len() as u64).to_le_bytes())?;
    output.put(&header)?;
    for unit in units {
        for values in [&unit.weights, &unit.mean, &unit.square] {
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

/// Reads the units of a file again, in the order in which they were written.
pub(super) fn read(path: &Path) -> Result<Vec<UnitState>, CheckpointError> {
    let unreadable = |source| CheckpointError::Read { path: path.to_owned(), source };
    let damaged = |problem: String| CheckpointError::Damaged { path: path.to_owned(), problem };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut input = BufReader::new(file);
    let mut first = [0; 8];
    input.read_exact(&mut first).map_err(unreadable)?;
    let header_length = u64::from_le_bytes(first);
    if header_length > length {
        return Err(damaged(format!("its header of {header_length} bytes is longer than the file")));
    }
    let mut header = vec![0; usize::try_from(header_length).unwrap_or(usize::MAX)];
    input.read_exact(&mut header).map_err(unreadable)?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let mut units = Vec::new();
    for (name, values) in in_order(&header).map_err(&damaged)? {
        let mut unit = values;
        unit.unit = name;
        for values in [&mut unit.weights, &mut unit.mean, &mut unit.square] {
            *values = floats(&mut input, unit.range.len()).map_err(unreadable)?;
        }
        units.push(unit);
    }
    Ok(units)
}

/// The header's bytes, filled up with spaces so that the data begins at a multiple of eight, as the format wants it.
fn header(units: &[UnitState]) -> std::io::Result<Vec<u8>> {
    let mut header = Header { units: BTreeMap::new(), tensors: HashMap::new() };
    let mut begin = 0;
    for unit in units {
        let length = unit.range.len();
        if [&unit.weights, &unit.mean, &unit.square].iter().any(|values| values.len() != length) {
            let problem = format!("unit `{}` has not the {length} values that it says", unit.unit);
            return Err(std::io::Error::other(problem));
        }
        header.units.insert(unit.unit.clone(), format!("{}..{} of {}", unit.range.start, unit.range.end, unit.total));
        for kind in KINDS {
            let end = begin + length * WIDTH;
            let entry = Entry { dtype: "F32".to_owned(), shape: vec![length], data_offsets: (begin, end) };
            header.tensors.insert(format!("{}.{kind}", unit.unit), entry);
            begin = end;
        }
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}

/// The units of a header without their values, in the order of the data.
fn in_order(header: &Header) -> Result<Vec<(String, UnitState)>, String> {
    let mut units = Vec::new();
    for (name, place) in &header.units {
        let (range, total) = place.split_once(" of ").ok_or_else(|| format!("`{place}` is no range"))?;
        let (start, end) = range.split_once("..").ok_or_else(|| format!("`{range}` is no range"))?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is no number"));
        let range = number(start)?..number(end)?;
        let entry =
            header.tensors.get(&format!("{name}.{}", KINDS[0])).ok_or_else(|| format!("`{name}` is missing"))?;
        let unit = UnitState {
            unit: String::new(),
            range,
            total: number(total)?,
            weights: Vec::new(),
            mean: Vec::new(),
            square: Vec::new(),
        };
        units.push((entry.data_offsets.0, (name.clone(), unit)));
    }
    // Units without values begin where the next one does: they are told apart by name.
    units.sort_by(|(a, (name, unit)), (b, (other, another))| {
        (a, unit.range.len(), name).cmp(&(b, another.range.len(), other))
    });
    Ok(units.into_iter().map(|(_, unit)| unit).collect())
}

fn floats(input: &mut impl Read, count: usize) -> std::io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut bytes = vec![0; PIECE.min(count) * WIDTH];
    while values.len() < count {
        let piece = PIECE.min(count - values.len()) * WIDTH;
        input.read_exact(&mut bytes[..piece])?;
        values.extend(bytes[..piece].as_chunks::<WIDTH>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(values)
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

    #[test]
    fn a_part_is_read_as_it_was_written_and_is_a_safetensors_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.safetensors");
        let unit = |name: &str, from: usize, count: u8| {
            let values = |offset: f32| (0..count).map(|n| f32::from(n) + offset).collect::<Vec<_>>();
            let range = from..from + usize::from(count);
            UnitState {
                unit: name.to_owned(),
                range,
                total: 100,
                weights: values(0.5),
                mean: values(-1.0),
                square: values(7e-9),
            }
        };
        let units = [unit("model.norm", 40, 3), unit("layers.1", 0, 0), unit("layers.0", 5, 9), unit("a", 0, 1)];
        let digest = write(&path, &units).unwrap();
        assert_eq!(digest, durable::digest(&path).unwrap());
        let read = read(&path).unwrap();
        let by_name = |mut units: Vec<UnitState>| {
            units.sort_by(|a, b| a.unit.cmp(&b.unit));
            units
        };
        assert_eq!(by_name(read), by_name(units.to_vec()));
        let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
        assert_eq!(tensors["layers.0.square"].to_vec1::<f32>().unwrap(), units[2].square);
    }
}
