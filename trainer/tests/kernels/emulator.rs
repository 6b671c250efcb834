//! A program that stands in for a GPU: made of a kernel's source and of `emulated/`, told a plan, and asked what is in its buffers then.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use sera_trainer::ops::kernels::{Argument, Buffer, Kernel, Plan, Runner};

/// How it is compiled: every access of memory is checked, and sums are rounded as they are written down, as the kernels' own build has it.
const OPTIONS: [&str; 6] = [
    "-std=c++17",
    "-O1",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
];
/// Warnings are errors, but not those of what is changed.
const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];
/// In which order threads take turns, and what is in memory that nobody has written: nothing may depend on either.
const RUNS: [(u32, u8); 3] = [(0, 0xff), (1, 0x00), (2, 0x5a)];
/// How a GPU's memory is aligned, at least; a tensor may begin anywhere in it.
const ALIGNMENT: usize = 16;

/// The program with one kernel's source.
pub(crate) struct Emulator(PathBuf);

impl Emulator {
    /// That of `kernel`.
    pub(crate) fn of(kernel: Kernel) -> Self {
        Self::made(kernel, &manifest("kernels"), &kernel.name().replace('-', "_"), &WARNINGS)
    }

    /// That of what the kernel is with `to` for `from` in one of its files.
    pub(crate) fn changed(kernel: Kernel, number: usize, (file, from, to): (&str, &str, &str)) -> Self {
        let name = kernel.name().replace('-', "_");
        let sources = tempfile::tempdir().unwrap();
        for copied in [format!("{name}.cu"), "common.cuh".to_owned()] {
            let mut text = std::fs::read_to_string(manifest("kernels").join(&copied)).unwrap();
            if copied == file {
                assert_eq!(text.matches(from).count(), 1, "`{from}` in {file}");
                text = text.replace(from, to);
            }
            std::fs::write(sources.path().join(copied), text).unwrap();
        }
        Self::made(kernel, sources.path(), &format!("{name}-{number}"), &[])
    }

    fn made(kernel: Kernel, sources: &Path, name: &str, options: &[&str]) -> Self {
        let headers = manifest("tests/kernels/emulated");
        let source = sources.join(kernel.name().replace('-', "_")).with_extension("cu");
        let mut command = compiler();
        command.args(options).arg("-include").arg(headers.join("emulator.h")).arg("-I").arg(&headers);
        command.args(["-x", "c++"]).arg(source).args(["-x", "none"]).arg(around());
        let program = temporary(name);
        compile(command, &program);
        Self(program)
    }

    /// What is in the buffers after the launches, the same after each of the [runs](RUNS).
    fn buffers_after(&self, plan: &Plan) -> Result<Vec<Vec<u8>>> {
        let mut words = Words::default();
        words.count(RUNS.len());
        let mut lengths = Vec::new();
        for (order, fill) in RUNS {
            lengths = words.number(order).buffers(plan, fill)?;
            words.launches(plan);
        }
        let after = self.told(words.0)?;
        let mut runs = after.chunks(lengths.iter().sum());
        let first = runs.next().unwrap_or_default();
        if runs.any(|run| run != first) {
            bail!("what is computed depends on the order of threads, or on what nobody has written");
        }
        let mut first = first.iter().copied();
        Ok(lengths.into_iter().map(|length| first.by_ref().take(length).collect()).collect())
    }

    /// What the program answers, or what it complains of.
    fn told(&self, words: Vec<u8>) -> Result<Vec<u8>> {
        let piped = Command::new(&self.0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = piped?;
        let mut input = child.stdin.take().unwrap();
        // A program that ends early reads no further: what it says matters, not that.
        let writer = std::thread::spawn(move || input.write_all(&words));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // The sanitizer says of fibers that it may complain of what is right: none of these does.
            let said = said.lines().filter(|line| !line.contains("WARNING: ASan")).take(4);
            bail!("{}: {}", output.status, said.collect::<Vec<_>>().join(" "));
        }
        Ok(output.stdout)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Runner for Emulator {
    fn run(&self, plan: &Plan) -> Result<Vec<Tensor>> {
        let mut made = Vec::new();
        for (buffer, bytes) in plan.buffers().iter().zip(self.buffers_after(plan)?) {
            match buffer {
                Buffer::Read(tensor) if bytes != self::bytes(tensor)? => bail!("what is only read was written"),
                Buffer::Changed(of) => of.slice_set(&tensor(&bytes, of.dtype(), of.shape())?, 0, 0)?,
                Buffer::Made(dtype, shape) => made.push(tensor(&bytes, *dtype, shape)?),
                Buffer::Read(_) | Buffer::Scratch(..) => {}
            }
        }
        Ok(made)
    }
}

/// What the program is told.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.number(count.try_into().unwrap())
    }

    fn long(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    /// The buffers of a plan, those that nobody has written filled with a byte; how long each is.
    fn buffers(&mut self, plan: &Plan, fill: u8) -> Result<Vec<usize>> {
        self.count(plan.buffers().len());
        let mut lengths = Vec::new();
        for buffer in plan.buffers() {
            let (before, bytes) = match buffer {
                Buffer::Read(tensor) | Buffer::Changed(tensor) => (begin(tensor) % ALIGNMENT, bytes(tensor)?),
                Buffer::Made(dtype, shape) => (0, vec![fill; shape.elem_count() * dtype.size_in_bytes()]),
                Buffer::Scratch(dtype, count) => (0, vec![fill; count * dtype.size_in_bytes()]),
            };
            lengths.push(bytes.len());
            self.long(before as u64).long(bytes.len() as u64).raw(&bytes);
        }
        Ok(lengths)
    }

    fn launches(&mut self, plan: &Plan) {
        self.count(plan.launches().len());
        for launch in plan.launches() {
            self.count(launch.function.len()).raw(launch.function.as_bytes());
            launch.grid.into_iter().chain(launch.block).for_each(|number| {
                self.number(number);
            });
            self.count(launch.arguments.len());
            for argument in &launch.arguments {
                match argument {
                    Argument::Buffer(at) => self.raw(&[kind(&plan.buffers()[*at])]).long(*at as u64),
                    Argument::Count(count) => self.raw(b"c").long(*count),
                    Argument::Number(number) => self.raw(b"n").long(number.to_bits().into()),
                };
            }
        }
    }
}

/// What a parameter has to be for a buffer: its type, in capitals where it may be written.
fn kind(buffer: &Buffer) -> u8 {
    let (dtype, is_written) = match buffer {
        Buffer::Read(tensor) => (tensor.dtype(), false),
        Buffer::Changed(tensor) => (tensor.dtype(), true),
        Buffer::Made(dtype, _) | Buffer::Scratch(dtype, _) => (*dtype, true),
    };
    let letter = match dtype {
        DType::F32 => b'f',
        DType::BF16 => b'h',
        DType::U32 => b'u',
        other => panic!("no kernel takes {other:?}"),
    };
    if is_written { letter.to_ascii_uppercase() } else { letter }
}

/// Where a tensor begins in its memory, in bytes.
fn begin(tensor: &Tensor) -> usize {
    tensor.layout().start_offset() * tensor.dtype().size_in_bytes()
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect(),
        DType::F32 => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
        // The upper half of the f32 of the same value.
        _ => {
            let wide = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            wide.into_iter().flat_map(|value| u16::try_from(value.to_bits() >> 16).unwrap().to_le_bytes()).collect()
        }
    })
}

fn tensor(bytes: &[u8], dtype: DType, shape: &Shape) -> Result<Tensor> {
    let values: Vec<f32> = if dtype == DType::F32 {
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    } else {
        let halves = bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        halves.map(|half| f32::from_bits(u32::from(half) << 16)).collect()
    };
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_dtype(dtype)
}

/// What is the same around all kernels, compiled once.
fn around() -> &'static Path {
    static AROUND: OnceLock<PathBuf> = OnceLock::new();
    AROUND.get_or_init(|| {
        let (object, done) = (temporary("around"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel-around.o"));
        let mut command = compiler();
        command.args(WARNINGS).arg("-c").arg(manifest("tests/kernels/emulated/emulator.cc"));
        compile(command, &object);
        std::fs::rename(object, &done).unwrap();
        done
    })
}

fn compiler() -> Command {
    let mut command = Command::new("g++");
    command.args(OPTIONS);
    command
}

fn compile(mut command: Command, to: &Path) {
    let output = command.arg("-o").arg(to).output().expect("g++ is needed, as for the trainer itself");
    assert!(output.status.success(), "g++ with sanitizers: {}", String::from_utf8_lossy(&output.stderr));
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of this process alone: another may run beside it.
fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernel-{name}-{}", std::process::id()))
}
