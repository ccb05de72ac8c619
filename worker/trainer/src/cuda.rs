//! libtorch's CUDA part, and the way to a device.

use tch::{Device, TchError, Tensor};

/// Loads libtorch's CUDA part where it is installed: one binary serves nodes with and without CUDA,
/// and links libtorch's CPU part alone. To be called once, before libtorch is first asked for a
/// device.
#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
pub fn load_cuda() {
    // SAFETY: a library of the libtorch that this program links; its initialisers make it known
    // there.
    let loaded = unsafe {
        libloading::os::unix::Library::open(
            Some("libtorch_cuda.so"),
            libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL,
        )
    };
    // Absent on most nodes. Kept for the life of the process where it is there.
    if let Ok(library) = loaded {
        std::mem::forget(library);
    }
}

/// A small tensor of the processor's, on `device`. The copy is queued like a kernel, from memory of
/// the driver's own: nobody waits for it.
pub(crate) fn upload(here: Tensor, device: Device) -> Result<Tensor, TchError> {
    if device == Device::Cpu {
        return Ok(here);
    }
    let kind = here.kind();
    here.f_to_device_(device, kind, true, false)
}
