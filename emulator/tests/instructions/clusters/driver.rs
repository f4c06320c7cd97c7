//! Clusters through the driver API. cudarc's bindings for CUDA 11.4 do not have `cuLaunchKernelEx`,
//! so functions are asked for by name.

use std::ffi::{CString, c_int, c_uint, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUfunction, CUresult, CUstream};
use cudarc::driver::{CudaContext, DevicePtr};

use crate::common;

/// `CUlaunchAttribute`.
#[repr(C)]
struct Attribute {
    id: c_uint,
    padding: c_uint,
    value: [u32; 16],
}

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    stream: CUstream,
    attributes: *const Attribute,
    count: c_uint,
}

const COOPERATIVE: u32 = 2;
const CLUSTER: u32 = 4;
const POLICY: u32 = 5;

/// A function of the driver.
fn symbol(name: &str) -> *mut c_void {
    let name = CString::new(name).expect("a name");
    let mut address = std::ptr::null_mut();
    // SAFETY: a name that ends with a zero, and a place for the address.
    let status = unsafe { sys::cuGetProcAddress(name.as_ptr(), &mut address, 12_000, 0) };
    assert_eq!(status, CUresult::CUDA_SUCCESS);
    address
}

/// Codes that functions return; the enum of CUDA 11.4 does not have all.
const GOOD: u32 = 0;
const INVALID: u32 = 1;
const NOT_PERMITTED: u32 = 800;
const NOT_SUPPORTED: u32 = 801;
const SIZE: u32 = 912;

type LaunchEx =
    unsafe extern "C" fn(*const Config, CUfunction, *mut *mut c_void, *mut *mut c_void) -> u32;
type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, CUfunction) -> u32;
type SetAttribute = unsafe extern "C" fn(CUfunction, c_int, c_int) -> u32;
type Occupancy = unsafe extern "C" fn(*mut c_int, CUfunction, *const Config) -> u32;

/// The kernel `main` of a module from PTX text without its header, in the current context. cudarc
/// keeps its functions' handles to itself.
fn load(context: &Arc<CudaContext>, sm: u32, body: &str) -> CUfunction {
    context.bind_to_thread().expect("a context");
    let text = format!(".version 8.0\n.target sm_{sm}\n.address_size 64\n{body}\0");
    let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: PTX text and names that end with zeros.
    unsafe {
        let status = sys::cuModuleLoadData(&mut module, text.as_ptr().cast());
        assert_eq!(status, CUresult::CUDA_SUCCESS);
        let status = sys::cuModuleGetFunction(&mut function, module, c"main".as_ptr());
        assert_eq!(status, CUresult::CUDA_SUCCESS);
    }
    function
}

/// Launches blocks of 32 threads with attributes and one parameter.
fn launch(
    function: CUfunction,
    grid: [u32; 3],
    attributes: &[(u32, [u32; 3])],
    mut parameter: u64,
) -> u32 {
    let attributes: Vec<Attribute> = attributes
        .iter()
        .map(|&(id, sizes)| {
            let mut value = [0; 16];
            value[..3].copy_from_slice(&sizes);
            Attribute {
                id,
                padding: 0,
                value,
            }
        })
        .collect();
    let config = Config {
        grid,
        block: [32, 1, 1],
        shared_bytes: 0,
        stream: std::ptr::null_mut(),
        attributes: attributes.as_ptr(),
        count: attributes.len() as c_uint,
    };
    let mut parameters = [std::ptr::from_mut(&mut parameter).cast::<c_void>()];
    // SAFETY: the function's type is that of the driver's header; the kernels take one parameter of
    // eight bytes.
    unsafe {
        let launch: LaunchEx = std::mem::transmute(symbol("cuLaunchKernelEx"));
        launch(
            &config,
            function,
            parameters.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}

fn get(function: CUfunction, number: c_int) -> c_int {
    let mut value = -1;
    // SAFETY: the function's type is that of the driver's header.
    let status = unsafe {
        let get: GetAttribute = std::mem::transmute(symbol("cuFuncGetAttribute"));
        get(&mut value, number, function)
    };
    assert_eq!(status, GOOD);
    value
}

fn set(function: CUfunction, number: c_int, value: c_int) -> u32 {
    // SAFETY: the function's type is that of the driver's header.
    unsafe {
        let set: SetAttribute = std::mem::transmute(symbol("cuFuncSetAttribute"));
        set(function, number, value)
    }
}

fn occupancy(
    name: &str,
    function: CUfunction,
    cluster: u32,
    shared_bytes: u32,
) -> Result<c_int, u32> {
    let mut value = [0; 16];
    value[..3].copy_from_slice(&[cluster, 1, 1]);
    let attribute = Attribute {
        id: CLUSTER,
        padding: 0,
        value,
    };
    let config = Config {
        grid: [cluster, 1, 1],
        block: [1024, 1, 1],
        shared_bytes,
        stream: std::ptr::null_mut(),
        attributes: &attribute,
        count: 1,
    };
    let mut count = 0;
    // SAFETY: the function's type is that of the driver's header.
    let status = unsafe {
        let ask: Occupancy = std::mem::transmute(symbol(name));
        ask(&mut count, function, &config)
    };
    if status == GOOD {
        Ok(count)
    } else {
        Err(status)
    }
}

/// `main(unsigned* out)`: each block writes the rank of its cluster's next block, which it reads
/// from that block's shared memory.
const NEXT: &str = "
    .reg .pred %p<2>;
    .reg .b32 %r<12>;
    .reg .b64 %rd<4>;
    .shared .align 4 .b32 cell;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %cluster_ctarank;
    mov.u32 %r3, %cluster_nctarank;
    setp.ne.u32 %p1, %r1, 0;
    @!%p1 st.shared.u32 [cell], %r2;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    @%p1 bra met;
    add.u32 %r4, %r2, 1;
    rem.u32 %r4, %r4, %r3;
    mov.u32 %r5, cell;
    mapa.shared::cluster.u32 %r6, %r5, %r4;
    ld.shared::cluster.u32 %r7, [%r6];
    mov.u32 %r8, %ctaid.x;
    mul.wide.u32 %rd2, %r8, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r7;
met:
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    ret;
}
";

fn next(attributes: &str) -> String {
    format!(".visible .entry main(.param .u64 out)\n{attributes}\n{{{NEXT}")
}

const NOTHING: &str = ".visible .entry main(.param .u64 out)\n{\n    ret;\n}\n";

#[test]
fn launches_have_clusters() {
    let context = common::context(90);
    let stream = context.default_stream();
    let function = load(&context, 90, &next(""));
    let out = stream.alloc_zeros::<u32>(32).expect("memory");
    let address = out.device_ptr(&stream).0;
    let ran = |attributes: &[(u32, [u32; 3])], blocks: u32| {
        let status = launch(function, [blocks, 1, 1], attributes, address);
        assert_eq!(status, GOOD);
        let all = stream.clone_dtoh(&out).expect("a copy");
        all[..blocks as usize].to_vec()
    };
    assert_eq!(ran(&[], 3), [0, 0, 0]);
    assert_eq!(ran(&[(CLUSTER, [3, 1, 1])], 6), [1, 2, 0, 1, 2, 0]);
    let both = [
        (POLICY, [1, 0, 0]),
        (CLUSTER, [2, 1, 1]),
        (COOPERATIVE, [1, 0, 0]),
    ];
    assert_eq!(ran(&both, 4), [1, 0, 1, 0]);
    // More than eight blocks only where the function allows it.
    let large = [(CLUSTER, [16, 1, 1])];
    assert_eq!(launch(function, [32, 1, 1], &large, address), SIZE);
    assert_eq!(set(function, 14, 1), GOOD);
    assert_eq!(get(function, 14), 1);
    assert_eq!(ran(&large, 32)[14..18], [15, 0, 1, 2]);
    context
        .check_err()
        .expect("launches that were refused do no harm");
}

#[test]
fn clusters_that_cannot_be_are_refused() {
    let context = common::context(90);
    let plain = load(&context, 90, NOTHING);
    let refused = |grid: [u32; 3], cluster: [u32; 3]| launch(plain, grid, &[(CLUSTER, cluster)], 0);
    assert_eq!(refused([8, 1, 1], [8, 1, 1]), GOOD);
    assert_eq!(refused([9, 1, 1], [9, 1, 1]), SIZE);
    assert_eq!(refused([3, 2, 1], [2, 2, 1]), SIZE);
    assert_eq!(refused([2, 2, 1], [2, 2, 1]), GOOD);
    assert_eq!(refused([4, 4, 1], [4, 0, 1]), SIZE);
    let policy = launch(plain, [2, 1, 1], &[(POLICY, [3, 0, 0])], 0);
    assert_eq!(policy, INVALID);

    let text = NOTHING.replace(")\n{", ")\n.reqnctapercluster 2, 1, 1\n{");
    let fixed = load(&context, 90, &text);
    assert_eq!(
        (10..16).map(|n| get(fixed, n)).collect::<Vec<_>>(),
        [1, 2, 1, 1, 0, 0]
    );
    assert_eq!(launch(fixed, [4, 1, 1], &[], 0), GOOD);
    assert_eq!(launch(fixed, [3, 1, 1], &[], 0), SIZE);
    assert_eq!(launch(fixed, [4, 1, 1], &[(CLUSTER, [4, 1, 1])], 0), SIZE);
    assert_eq!(set(fixed, 11, 4), NOT_PERMITTED);

    let text = NOTHING.replace(")\n{", ")\n.explicitcluster\n.maxclusterrank 4\n{");
    let explicit = load(&context, 90, &text);
    assert_eq!(
        (10..14).map(|n| get(explicit, n)).collect::<Vec<_>>(),
        [1, 0, 0, 0]
    );
    assert_eq!(launch(explicit, [8, 1, 1], &[], 0), SIZE);
    assert_eq!(
        launch(explicit, [8, 1, 1], &[(CLUSTER, [8, 1, 1])], 0),
        SIZE
    );
    assert_eq!(
        launch(explicit, [8, 1, 1], &[(CLUSTER, [4, 1, 1])], 0),
        GOOD
    );

    // A required cluster that the host sets.
    for (number, size) in [(11, 2), (12, 2), (13, 1)] {
        assert_eq!(set(plain, number, size), GOOD);
    }
    assert_eq!(launch(plain, [4, 2, 1], &[], 0), GOOD);
    assert_eq!(launch(plain, [4, 1, 1], &[], 0), SIZE);
    assert_eq!(set(plain, 15, 3), INVALID);
    context
        .check_err()
        .expect("launches that were refused do no harm");
}

#[test]
fn older_devices_have_no_clusters() {
    let context = common::context(80);
    let function = load(&context, 80, NOTHING);
    let one = [(CLUSTER, [1, 1, 1])];
    assert_eq!(launch(function, [2, 1, 1], &one, 0), GOOD);
    let two = [(CLUSTER, [2, 1, 1])];
    assert_eq!(launch(function, [2, 1, 1], &two, 0), NOT_SUPPORTED);
    assert_eq!(set(function, 14, 1), NOT_SUPPORTED);
    let active = occupancy("cuOccupancyMaxActiveClusters", function, 2, 0);
    assert_eq!(active, Err(SIZE));
}

#[test]
fn the_device_says_how_many_clusters_fit() {
    let context = common::context(90);
    let function = load(&context, 90, NOTHING);
    let active = |cluster| occupancy("cuOccupancyMaxActiveClusters", function, cluster, 0);
    // Two blocks of 1024 threads a multiprocessor.
    assert_eq!(active(1), Ok(264));
    assert_eq!(active(2), Ok(132));
    assert_eq!(active(8), Ok(32));
    assert_eq!(active(16), Err(SIZE));
    let largest = |function| occupancy("cuOccupancyMaxPotentialClusterSize", function, 1, 0);
    assert_eq!(largest(function), Ok(8));
    assert_eq!(set(function, 14, 1), GOOD);
    assert_eq!(largest(function), Ok(16));
    assert_eq!(active(16), Ok(16));
    let (mut value, mut device) = (0, 0);
    // SAFETY: places for the numbers; attribute 120 is CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH.
    unsafe {
        type Ask = unsafe extern "C" fn(*mut c_int, c_int, sys::CUdevice) -> u32;
        let ask: Ask = std::mem::transmute(symbol("cuDeviceGetAttribute"));
        assert_eq!(sys::cuCtxGetDevice(&mut device), CUresult::CUDA_SUCCESS);
        assert_eq!(ask(&mut value, 120, device), GOOD);
    }
    assert_eq!(value, 1);
}
