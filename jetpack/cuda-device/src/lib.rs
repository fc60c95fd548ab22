//! The GPUs that the CUDA driver has: name, compute capability and memory.
//!
//! The driver is looked for while the program runs, so that one build serves
//! machines with and without it. Only programs that may die of the driver's faults
//! use this, `engine-worker` and `engine-builder`. The supervisor never does: it reads
//! a GPU's sensors through NVML, see `jetpack`.
//!
//! Asking for memory takes a context on the GPU. It is the device's primary one,
//! which whatever computes in the same process shares.

use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED;
use cudarc::driver::{CudaContext, DriverError, result, sys};
use jetpack::Bytes;

/// One GPU; its context lives as long as this.
#[derive(Debug)]
pub struct Gpu {
    context: Arc<CudaContext>,
    name: String,
    sm: u32,
    total: Bytes,
    is_integrated: bool,
}

/// Why there is no GPU to be asked, or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no CUDA driver is installed: there is no libcuda.so.1")]
    NoDriver,
    #[error("the CUDA driver could not {doing}: {cause}")]
    Driver { doing: &'static str, cause: String },
}

impl Gpu {
    /// Every GPU, in the order in which CUDA counts them. There is at least one.
    ///
    /// # Errors
    /// [`Error::NoDriver`], or what the driver says: without a GPU it is
    /// `CUDA_ERROR_NO_DEVICE`.
    pub fn all() -> Result<Vec<Self>, Error> {
        if !has_driver() {
            return Err(Error::NoDriver);
        }
        result::init().map_err(could_not("start"))?;
        let count = result::device::get_count().map_err(could_not("count its GPUs"))?;
        (0..usize::try_from(count).unwrap_or(0)).map(Self::open).collect()
    }

    fn open(index: usize) -> Result<Self, Error> {
        let context = CudaContext::new(index).map_err(could_not("make a context"))?;
        let asked = could_not("describe a GPU");
        let (major, minor) = context.compute_capability().map_err(&asked)?;
        let number = |part| u32::try_from(part).unwrap_or(0);
        Ok(Self {
            name: context.name().map_err(&asked)?,
            sm: number(major) * 10 + number(minor),
            total: bytes(context.total_mem().map_err(&asked)?),
            is_integrated: context.attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED).map_err(&asked)? != 0,
            context,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The compute capability without its dot, for example 87.
    #[must_use]
    pub fn sm(&self) -> u32 {
        self.sm
    }

    /// All of its memory; of an integrated GPU, the machine's.
    #[must_use]
    pub fn total(&self) -> Bytes {
        self.total
    }

    /// Whether its memory is the machine's own. What the driver calls free is then
    /// less than what can be had, for it does not count what the kernel can reclaim.
    #[must_use]
    pub fn is_integrated(&self) -> bool {
        self.is_integrated
    }

    /// Memory that nobody has taken.
    ///
    /// # Errors
    /// What the driver says.
    pub fn free(&self) -> Result<Bytes, Error> {
        let (free, _) = self.context.mem_get_info().map_err(could_not("tell its free memory"))?;
        Ok(bytes(free))
    }
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (sm_{})", self.name, self.sm)
    }
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
fn has_driver() -> bool {
    // SAFETY: the driver's library may be loaded at any time, and it stays loaded
    // for those who look up its functions.
    unsafe { sys::is_culib_present() }
}

fn could_not(doing: &'static str) -> impl Fn(DriverError) -> Error {
    move |error| {
        let words = error.error_string().ok().and_then(|words| words.to_str().ok());
        let cause = format!("{} ({:?})", words.unwrap_or("it gives no reason"), error.0);
        Error::Driver { doing, cause }
    }
}

fn bytes(count: usize) -> Bytes {
    Bytes::new(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both kinds of machine run this: with a GPU its facts must fit together, without
    /// one there is a reason.
    #[test]
    fn a_gpu_has_its_facts_and_its_absence_a_reason() {
        match Gpu::all() {
            Ok(gpus) => {
                assert!(!gpus.is_empty());
                for gpu in gpus {
                    assert!(gpu.free().unwrap() <= gpu.total(), "{gpu}");
                    assert!(gpu.sm() >= 50 && !gpu.name().is_empty(), "{gpu}");
                }
            }
            Err(error) => assert!(error.to_string().contains("CUDA driver"), "{error}"),
        }
    }
}
