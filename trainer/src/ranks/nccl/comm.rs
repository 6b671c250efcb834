//! NCCL itself: a communicator that never blocks, its calls, and its end. candle's bindings (cudarc) have a safe one, which can neither be aborted nor be
//! asked whether it failed, and without both a rank that is lost would leave the others waiting. What is sent is not said here.

// Foreign functions over a handle that this file alone has.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DevicePtr};
use candle_core::cuda_backend::cudarc::nccl::result::get_nccl_version;
use candle_core::cuda_backend::cudarc::nccl::{Id, sys};
use candle_core::{DType, Error, Storage, Tensor, bail};

use super::super::ring::Carried;

/// What a number of a configuration is that NCCL shall choose (`NCCL_CONFIG_UNDEF_INT`).
const CHOOSE: c_int = c_int::MIN;
/// How a configuration begins (`NCCL_CONFIG_INITIALIZER`).
const MAGIC: u32 = 0xcafe_beef;
/// How long a communicator may take to end when all is well.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is done with the values of all ranks; numbers are summed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    AllReduce,
    ReduceScatter,
    AllGather,
}

/// A rank's end of a communicator.
pub(super) struct Comm {
    raw: sys::ncclComm_t,
    /// Where the GPU computes.
    computes: Arc<CudaStream>,
    /// Where it exchanges with others.
    stream: Arc<CudaStream>,
    aborted: bool,
}

// SAFETY: NCCL ties a communicator to no thread, only to one at a time, which `&mut` sees to.
unsafe impl Send for Comm {}

impl Comm {
    /// What the ranks of a new communicator know each other by: for one of them to send to all.
    pub(super) fn invite() -> Result<Vec<u8>, String> {
        let id = Id::new().map_err(|error| said(error.0))?;
        Ok(id.internal().iter().map(|byte| byte.to_ne_bytes()[0]).collect())
    }

    /// Begins to meet the others; their tensors and this rank's are what the GPU computes on `computes`.
    pub(super) fn begin(id: &[u8], rank: usize, world: usize, computes: Arc<CudaStream>) -> Result<Self, String> {
        let mut internal = [0; 128];
        if id.len() != internal.len() {
            return Err(format!(
                "rank 0 sent an invitation of {} bytes where NCCL's have {}",
                id.len(),
                internal.len()
            ));
        }
        for (to, from) in internal.iter_mut().zip(id) {
            *to = c_char::from_ne_bytes([*from]);
        }
        let number = |number: usize| c_int::try_from(number).map_err(|error| error.to_string());
        let (rank, world) = (number(rank)?, number(world)?);
        // This also makes the GPU the one of this thread, which NCCL goes by.
        let stream = computes.context().new_stream().map_err(|error| error.to_string())?;
        let mut config = config(get_nccl_version().map_err(|error| said(error.0))?);
        let mut raw = null_mut();
        // SAFETY: both pointers are to values of this frame, of the bindings' types; the configuration says its own size.
        accepted(unsafe {
            sys::ncclCommInitRankConfig(&raw mut raw, world, sys::ncclUniqueId { internal }, rank, &raw mut config)
        })?;
        Ok(Self { raw, computes, stream, aborted: false })
    }

    /// The meeting under way.
    pub(super) fn meeting(&mut self) -> Meeting<'_> {
        Meeting(self)
    }

    /// What comes to pass when the GPU has computed all that it has been told to until now.
    pub(super) fn event(&self) -> Result<CudaEvent, Error> {
        self.computes.record_event(None).map_err(Error::wrap)
    }

    /// A collective, not begun yet, of tensors that are there when `event` has come to pass. Both lie one after the other in the memory of this rank's
    /// GPU.
    pub(super) fn call<'a>(
        &'a mut self,
        operation: Operation,
        from: &'a Tensor,
        to: &'a Tensor,
        event: &'a CudaEvent,
    ) -> Result<Call<'a>, Error> {
        let kind = match from.dtype() {
            DType::F32 => sys::ncclDataType_t::ncclFloat32,
            DType::BF16 => sys::ncclDataType_t::ncclBfloat16,
            other => bail!("NCCL is given f32 and bf16 here, not {other:?}"),
        };
        if from.dtype() != to.dtype() {
            bail!("{:?} cannot be received as {:?}", from.dtype(), to.dtype());
        }
        let at = At::Before;
        Ok(Call {
            operation,
            kind,
            from: address(from, &self.stream)?,
            to: address(to, &self.stream)?,
            of: (from, to),
            event,
            at,
            comm: self,
        })
    }

    /// Whether NCCL is done with what it was told last, or why it never will be.
    fn is_ready(&self) -> Result<bool, String> {
        let mut state = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator was begun and is not aborted: whoever aborts it asks nothing more.
        accepted(unsafe { sys::ncclCommGetAsyncError(self.raw, &raw mut state) })?;
        accepted(state).map(|()| state == sys::ncclResult_t::ncclSuccess)
    }

    fn abort(&mut self) {
        if !self.aborted {
            self.aborted = true;
            // SAFETY: once, and nothing is asked of it afterwards. What it says cannot be helped.
            let _ = unsafe { sys::ncclCommAbort(self.raw) };
            // The tensors of the call are let go next, and their memory is computed in: not before what NCCL has put on its stream has ended. A GPU that
            // does not take this computes nothing more either.
            let _ = self.computes.join(&self.stream);
        }
    }
}

impl Drop for Comm {
    /// Ends it as NCCL wants it ended, or by force where that takes too long.
    fn drop(&mut self) {
        if self.aborted {
            return;
        }
        // SAFETY: the communicator is whole, and this is the last that is done with it.
        let finalized = accepted(unsafe { sys::ncclCommFinalize(self.raw) });
        let begun = Instant::now();
        while finalized.is_ok() && begun.elapsed() < FAREWELL {
            match self.is_ready() {
                Ok(true) => {
                    self.aborted = true;
                    // SAFETY: as above, after NCCL has said that it is done.
                    let _ = unsafe { sys::ncclCommDestroy(self.raw) };
                    return;
                }
                Ok(false) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        self.abort();
    }
}

/// The ranks of a communicator on their way to each other.
pub(super) struct Meeting<'a>(&'a mut Comm);

impl Carried for Meeting<'_> {
    fn is_done(&mut self) -> Result<bool, String> {
        self.0.is_ready()
    }

    fn abort(&mut self) {
        self.0.abort();
    }
}

/// A collective, which holds its tensors until it is let go.
pub(super) struct Call<'a> {
    comm: &'a mut Comm,
    operation: Operation,
    kind: sys::ncclDataType_t,
    from: *mut c_void,
    to: *mut c_void,
    of: (&'a Tensor, &'a Tensor),
    event: &'a CudaEvent,
    at: At,
}

/// How far a collective has come.
enum At {
    /// Not begun.
    Before,
    /// NCCL puts it on the stream.
    Begun,
    /// It is on the stream; the event comes after it.
    Queued(CudaEvent),
}

impl Carried for Call<'_> {
    fn is_done(&mut self) -> Result<bool, String> {
        match &self.at {
            At::Before => {
                self.start()?;
                self.at = At::Begun;
                Ok(false)
            }
            At::Begun => {
                if self.comm.is_ready()? {
                    let event = self.comm.stream.record_event(None).map_err(|error| error.to_string())?;
                    self.at = At::Queued(event);
                }
                Ok(false)
            }
            At::Queued(event) => {
                let done = event.try_is_complete().map_err(|error| error.to_string())?;
                // A connection that failed shows here, and never in the event.
                self.comm.is_ready()?;
                Ok(done)
            }
        }
    }

    fn abort(&mut self) {
        self.comm.abort();
    }
}

impl Call<'_> {
    fn start(&self) -> Result<(), String> {
        // This also makes the GPU the one of this thread.
        self.comm.stream.wait(self.event).map_err(|error| error.to_string())?;
        let (comm, stream) = (self.comm.raw, self.comm.stream.cu_stream().cast());
        let (sent, received) = (self.of.0.elem_count(), self.of.1.elem_count());
        let (from, to, kind, sum) = (self.from.cast_const(), self.to, self.kind, sys::ncclRedOp_t::ncclSum);
        // SAFETY: the addresses are those of tensors that this call borrows until it has ended or the communicator was aborted, and the counts are
        // theirs; what an operation sends and receives of them is what NCCL says it does. The stream comes to it after the event that the caller gives,
        // with which the tensors are allocated and made; nobody else has them before this call has ended, and none of their memory goes to anybody before
        // the stream is done with it, as the module above says.
        accepted(unsafe {
            match self.operation {
                Operation::AllReduce => sys::ncclAllReduce(from, to, sent, kind, sum, comm, stream),
                Operation::ReduceScatter => sys::ncclReduceScatter(from, to, received, kind, sum, comm, stream),
                Operation::AllGather => sys::ncclAllGather(from, to, sent, kind, comm, stream),
            }
        })
    }
}

/// Where the values of a tensor begin in the memory of the GPU.
fn address(tensor: &Tensor, stream: &CudaStream) -> Result<*mut c_void, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((begin, _))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("NCCL is given a tensor that is not on a GPU, or whose values do not lie one after the other")
    };
    let base = match &storage.slice {
        CudaStorageSlice::BF16(slice) => slice.device_ptr(stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(stream).0,
        _ => bail!("NCCL is given f32 and bf16 here, not {:?}", tensor.dtype()),
    };
    let address = usize::try_from(base).map_err(Error::wrap)? + begin * tensor.dtype().size_in_bytes();
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

/// What NCCL is told of a communicator: that it shall not block, and to choose everything else.
fn config(version: c_int) -> sys::ncclConfig_t {
    sys::ncclConfig_t {
        size: size_of::<sys::ncclConfig_t>(),
        magic: MAGIC,
        version: u32::try_from(version).unwrap_or_default(),
        blocking: 0,
        cgaClusterSize: CHOOSE,
        minCTAs: CHOOSE,
        maxCTAs: CHOOSE,
        netName: null(),
        splitShare: CHOOSE,
        trafficClass: CHOOSE,
        commName: null(),
        collnetEnable: CHOOSE,
        CTAPolicy: CHOOSE,
        shrinkShare: CHOOSE,
        nvlsCTAs: CHOOSE,
        nChannelsPerNetPeer: CHOOSE,
        nvlinkCentricSched: CHOOSE,
        graphUsageMode: CHOOSE,
        numRmaCtx: CHOOSE,
        maxP2pPeers: CHOOSE,
    }
}

/// Whether NCCL took what it was told, be it done or under way.
fn accepted(result: sys::ncclResult_t) -> Result<(), String> {
    match result {
        sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => Ok(()),
        other => Err(said(other)),
    }
}

/// NCCL's words.
fn said(result: sys::ncclResult_t) -> String {
    // SAFETY: NCCL gives a text of its own for every number, which lives as long as the program.
    let words = unsafe { CStr::from_ptr(sys::ncclGetErrorString(result)) };
    format!("NCCL says: {} (NCCL_DEBUG=WARN makes it say more)", words.to_string_lossy())
}
