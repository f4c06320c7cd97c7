//! Modules and launches through cudarc: what is refused and how, faults that stick, functions and
//! occupancy.

use crate::common::{SCALE, WILD, code, context, kernel, load, module};
use cudarc::driver::sys::{self, CUfunction_attribute as FunctionAttribute, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, result};
use std::sync::Arc;

fn shape(blocks: u32, threads: u32, shared_mem_bytes: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes,
    }
}

#[test]
fn kernels_run() {
    for sm in [75, 80, 90] {
        let context = context(sm);
        let stream = context.new_stream().expect("a stream");
        let scale = kernel(&context, SCALE, "scale");
        let mut x = stream
            .clone_htod(&(0..1000).map(|n| n as f32).collect::<Vec<_>>())
            .expect("a copy");
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut x).arg(&2.5f32).arg(&1000u32);
        // SAFETY: the buffer has 1000 elements, the count that the kernel receives.
        unsafe { launch.launch(shape(4, 256, 0)) }.expect("a launch");
        let expected: Vec<f32> = (0..1000).map(|n| n as f32 * 2.5).collect();
        assert_eq!(stream.clone_dtoh(&x), Ok(expected));
    }
}

#[test]
fn parameters_may_come_in_one_buffer() {
    let context = context(80);
    let stream = context.default_stream();
    let scale = kernel(&context, SCALE, "scale");
    let x = stream.clone_htod(&[1.0f32, 2.0]).expect("a copy");
    let mut buffer = [0u8; 16];
    {
        use cudarc::driver::DevicePtr;
        let (address, _guard) = x.device_ptr(&stream);
        buffer[..8].copy_from_slice(&address.to_le_bytes());
    }
    buffer[8..12].copy_from_slice(&10.0f32.to_le_bytes());
    buffer[12..].copy_from_slice(&2u32.to_le_bytes());
    let mut size = buffer.len();
    let mut extra: [*mut std::ffi::c_void; 5] = [
        1 as _,
        buffer.as_mut_ptr().cast(),
        2 as _,
        (&raw mut size).cast(),
        std::ptr::null_mut(),
    ];
    // SAFETY: the buffer is laid out as the kernel's parameters.
    let launched = unsafe {
        let function = scale.cu_function();
        let (stream, none) = (stream.cu_stream(), std::ptr::null_mut());
        sys::cuLaunchKernel(
            function,
            1,
            1,
            1,
            32,
            1,
            1,
            0,
            stream,
            none,
            extra.as_mut_ptr(),
        )
    };
    assert_eq!(launched, CUresult::CUDA_SUCCESS);
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![10.0, 20.0]));
}

#[test]
fn modules_are_refused_with_their_reason() {
    let context = context(75);
    let refused = |ptx: &str| code(load(&context, ptx));
    let empty = ".visible .entry f() { ret; }";
    let with = |version: &str, target: &str| {
        format!(".version {version}\n.target {target}\n.address_size 64\n{empty}")
    };
    assert_eq!(refused(&with("6.3", "sm_75")), None);
    assert_eq!(
        refused(&with("9.9", "sm_75")),
        Some(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    );
    assert_eq!(
        refused(&with("7.0", "sm_80")),
        Some(CUresult::CUDA_ERROR_INVALID_PTX)
    );
    assert_eq!(
        refused("this is no PTX"),
        Some(CUresult::CUDA_ERROR_INVALID_IMAGE)
    );
    assert_eq!(
        refused(&with("6.3", "sm_75").replace("ret", "frobnicate")),
        Some(CUresult::CUDA_ERROR_INVALID_PTX)
    );
    let module = module(&context, empty);
    assert_eq!(
        code(module.load_function("g")),
        Some(CUresult::CUDA_ERROR_NOT_FOUND)
    );
    let elf = *b"\x7fELF\0\0\0\0";
    // SAFETY: an image that is at once seen to be machine code.
    let machine_code = unsafe { result::module::load_data(elf.as_ptr().cast()) };
    assert_eq!(
        code(machine_code),
        Some(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU)
    );
}

/// Files that are modules, and paths that must neither be read for ever nor waited for.
#[test]
fn module_files() {
    let context = context(80);
    context.bind_to_thread().expect("bound");
    let folder = std::env::temp_dir().join(format!("ptx-emulator-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let good = b".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry f() { ret; }\n";
    let huge = file("huge", b"");
    // No bytes of it are on the disk.
    let made = std::fs::File::options().write(true).open(&huge);
    made.and_then(|file| file.set_len(1 << 40))
        .expect("a file with a hole");
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "a pipe");
    for (path, wanted) in [
        (file("good", good), CUresult::CUDA_SUCCESS),
        (
            file("nul", &[&good[..], b"\0"].concat()),
            CUresult::CUDA_SUCCESS,
        ),
        (
            file("elf", b"\x7fELF\x02"),
            CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
        ),
        (
            file("bytes", &[0xff; 8]),
            CUresult::CUDA_ERROR_INVALID_IMAGE,
        ),
        (file("empty", b""), CUresult::CUDA_ERROR_INVALID_IMAGE),
        (huge, CUresult::CUDA_ERROR_INVALID_IMAGE),
        (folder.join("none"), CUresult::CUDA_ERROR_FILE_NOT_FOUND),
        (folder.clone(), CUresult::CUDA_ERROR_FILE_NOT_FOUND),
        (pipe, CUresult::CUDA_ERROR_FILE_NOT_FOUND),
        ("/dev/zero".into(), CUresult::CUDA_ERROR_FILE_NOT_FOUND),
    ] {
        let name = std::ffi::CString::new(path.to_str().expect("text")).expect("no NUL");
        let mut module = std::ptr::null_mut();
        // SAFETY: a place for the module, and a C string.
        let code = unsafe { sys::cuModuleLoad(&mut module, name.as_ptr()) };
        assert_eq!(code, wanted, "{}", path.display());
        if code == CUresult::CUDA_SUCCESS {
            // SAFETY: the module was just loaded, and nothing uses it.
            unsafe { result::module::unload(module) }.expect("unloaded");
        }
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn logs_say_which_line_is_wrong() {
    let context = context(80);
    context.bind_to_thread().expect("bound");
    let ptx = c".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry f()\n\
        {\n frobnicate;\n ret;\n}\n";
    let mut log = [0u8; 200];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values = [log.as_mut_ptr().cast::<std::ffi::c_void>(), log.len() as _];
    let mut module = std::ptr::null_mut();
    // SAFETY: the buffer has the size that the options name.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            ptx.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    let text = String::from_utf8_lossy(&log);
    assert!(
        text.contains("line 6") && text.contains("frobnicate"),
        "{text}"
    );
}

#[test]
fn variables_have_addresses() {
    let context = context(80);
    let module = module(
        &context,
        ".global .align 4 .u32 table[4] = {1, 2, 3, 4};\n.visible .entry f() { ret; }",
    );
    let stream = context.default_stream();
    let table = module.get_global("table", &stream).expect("the variable");
    assert_eq!(
        stream.clone_dtoh(&table.as_view()),
        Ok([1u32, 2, 3, 4]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect())
    );
}

#[test]
fn impossible_launches_are_refused() {
    let context = context(80);
    let stream = context.default_stream();
    let scale = kernel(&context, SCALE, "scale");
    let mut x = stream.alloc_zeros::<f32>(4).expect("memory");
    let mut launch = |config: LaunchConfig| {
        let mut builder = stream.launch_builder(&scale);
        builder.arg(&mut x).arg(&1.0f32).arg(&4u32);
        // SAFETY: what is refused does nothing, and the kernel keeps to four elements.
        code(unsafe { builder.launch(config) })
    };
    let invalid = Some(CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(launch(shape(0, 32, 0)), invalid);
    assert_eq!(launch(shape(1, 0, 0)), invalid);
    assert_eq!(launch(shape(1, 1025, 0)), invalid);
    assert_eq!(launch(shape(1 << 31, 32, 0)), invalid);
    let block_dim = (1, 1, 65);
    assert_eq!(
        launch(LaunchConfig {
            grid_dim: (1, 1, 1),
            block_dim,
            shared_mem_bytes: 0
        }),
        invalid
    );
    let grid_dim = (1, 65_536, 1);
    assert_eq!(
        launch(LaunchConfig {
            grid_dim,
            block_dim: (1, 1, 1),
            shared_mem_bytes: 0
        }),
        invalid
    );
    assert_eq!(launch(shape(1, 32, 49_153)), invalid);
    assert_eq!(launch(shape(1, 32, 49_152)), None);
    let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert_eq!(code(scale.set_attribute(attribute, 166_913)), invalid);
    scale
        .set_attribute(attribute, 166_912)
        .expect("as much as the device has");
    let mut builder = stream.launch_builder(&scale);
    builder.arg(&mut x).arg(&1.0f32).arg(&4u32);
    // SAFETY: the kernel keeps to four elements.
    unsafe { builder.launch(shape(1, 32, 166_912)) }.expect("a launch");
}

#[test]
fn functions_say_what_they_are() {
    let context = context(80);
    let body = "
.visible .entry f(.param .u64 x)
.maxntid 128, 1, 1
{
    .shared .align 4 .b8 tile[1000];
    .reg .b32 %r1;
    mov.u32 %r1, tile;
    st.shared.u32 [%r1], %r1;
    ret;
}";
    let f = kernel(&context, body, "f");
    assert_eq!(f.max_threads_per_block(), Ok(128));
    assert_eq!(f.shared_size_bytes(), Ok(1000));
    assert_eq!(f.local_size_bytes(), Ok(0));
    assert_eq!(f.ptx_version(), Ok(75));
    assert_eq!(f.binary_version(), Ok(80));
    assert!(
        f.num_regs()
            .is_ok_and(|registers| (1..=255).contains(&registers))
    );
    assert_eq!(
        f.occupancy_max_active_blocks_per_multiprocessor(128, 0, None),
        Ok(16)
    );
    assert_eq!(
        f.occupancy_max_active_blocks_per_multiprocessor(128, 40_000, None),
        Ok(3)
    );
    assert_eq!(
        f.occupancy_max_active_blocks_per_multiprocessor(256, 0, None),
        Ok(0)
    );
    extern "C" fn none(_: std::ffi::c_int) -> usize {
        0
    }
    assert_eq!(
        f.occupancy_max_potential_block_size(none, 0, 0, None),
        Ok((108 * 16, 128))
    );
    assert!(
        f.occupancy_available_dynamic_smem_per_block(2, 128)
            .is_ok_and(|bytes| bytes > 49_152)
    );
}

/// Launches `wild` with four bytes at `offset` of a buffer of 64, and gives the codes of the launch
/// and of what follows.
fn wild(context: &Arc<CudaContext>, offset: i64) -> (Option<CUresult>, Option<CUresult>) {
    let stream = context.default_stream();
    let wild = kernel(context, WILD, "wild");
    let x = stream.alloc_zeros::<u8>(64).expect("memory");
    let mut launch = stream.launch_builder(&wild);
    launch.arg(&x).arg(&offset);
    // SAFETY: the emulator finds accesses out of bounds and does not do them.
    let launched = code(unsafe { launch.launch(shape(1, 1, 0)) });
    (launched, code(stream.synchronize()))
}

#[test]
fn faults_stick_to_their_context() {
    let cases = [
        (64, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
        (2, CUresult::CUDA_ERROR_MISALIGNED_ADDRESS),
    ];
    for (offset, expected) in cases {
        let broken = context(80);
        assert_eq!(
            wild(&broken, offset),
            (None, Some(expected)),
            "the launch itself succeeds"
        );
        let stream = broken.default_stream();
        let _ = broken.check_err();
        assert_eq!(code(stream.alloc_zeros::<u8>(1)), Some(expected));
        let _ = broken.check_err();
        assert_eq!(code(broken.new_stream()), Some(expected));
        let _ = broken.check_err();
        assert_eq!(code(broken.synchronize()), Some(expected));
        let other = context(80);
        assert_eq!(wild(&other, 60), (None, None), "other contexts go on");
    }
}

#[test]
fn faults_have_the_codes_of_a_real_driver() {
    let failed = CUresult::CUDA_ERROR_LAUNCH_FAILED;
    let header =
        ".reg .pred %p; .reg .b32 %r<4>; .shared .align 4 .u32 tile[32]; mov.u32 %r1, %tid.x;";
    let cases = [
        ("trap;", failed),
        (
            "setp.lt.u32 %p, %r1, 3; @!%p bra done; bar.sync 0; done:",
            failed,
        ),
        ("st.shared.u32 [tile], %r1;", failed),
        ("ld.shared.u32 %r2, [tile];", failed),
    ];
    for (body, expected) in cases {
        let context = context(80);
        let f = kernel(
            &context,
            &format!(".visible .entry f()\n{{ {header} {body} ret; }}"),
            "f",
        );
        let stream = context.default_stream();
        // SAFETY: the emulator ends a kernel that goes wrong.
        unsafe { stream.launch_builder(&f).launch(shape(1, 32, 0)) }
            .expect("the launch itself succeeds");
        assert_eq!(code(stream.synchronize()), Some(expected), "{body}");
    }
}

#[test]
fn freed_memory_is_not_touched() {
    let context = context(80);
    let stream = context.default_stream();
    let wild = kernel(&context, WILD, "wild");
    let x = stream.alloc_zeros::<u8>(64).expect("memory");
    let address = {
        use cudarc::driver::DevicePtr;
        x.device_ptr(&stream).0
    };
    drop(x);
    let mut launch = stream.launch_builder(&wild);
    launch.arg(&address).arg(&0i64);
    // SAFETY: the emulator finds the access and does not do it.
    unsafe { launch.launch(shape(1, 1, 0)) }.expect("the launch itself succeeds");
    assert_eq!(
        code(stream.synchronize()),
        Some(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)
    );
}

#[test]
fn managed_memory_is_reached_by_kernels() {
    let context = context(80);
    let stream = context.default_stream();
    let scale = kernel(&context, SCALE, "scale");
    // SAFETY: the memory is written before it is read.
    let mut x = unsafe { context.alloc_unified::<f32>(4, true) }.expect("managed memory");
    x.as_mut_slice()
        .expect("nothing uses it")
        .copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    let mut launch = stream.launch_builder(&scale);
    launch.arg(&mut x).arg(&3.0f32).arg(&4u32);
    // SAFETY: the kernel keeps to four elements.
    unsafe { launch.launch(shape(1, 32, 0)) }.expect("a launch");
    stream.synchronize().expect("done");
    assert_eq!(x.as_slice().expect("done"), [3.0, 6.0, 9.0, 12.0]);
}

#[test]
fn cooperative_launches_must_fit() {
    let context = context(80);
    let stream = context.default_stream();
    let scale = kernel(&context, SCALE, "scale");
    let mut x = stream.clone_htod(&[1.0f32; 4]).expect("a copy");
    let mut launch = |blocks| {
        let mut builder = stream.launch_builder(&scale);
        builder.arg(&mut x).arg(&2.0f32).arg(&4u32);
        // SAFETY: the kernel keeps to four elements.
        code(unsafe { builder.launch_cooperative(shape(blocks, 1024, 0)) })
    };
    assert_eq!(launch(1), None);
    assert_eq!(
        launch(217),
        Some(CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)
    );
}
