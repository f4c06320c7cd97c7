//! A launch allocates nothing on the host and nothing on the device, and loads no module. A process of its own, for its
//! allocator counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Case, gpu, small_conv, zeros};
use warpconv::launch::ConvBuffers;
use warpconv::plan::ConvPlan;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_launch_allocates_nothing() {
    let gpu = gpu();
    let case = Case::new(small_conv(), 1);
    let plan = gpu
        .prepare_conv(&ConvPlan::new(&case.problem, gpu.capability()).unwrap())
        .unwrap();
    let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
    let bias = gpu.upload(&case.bias).unwrap();
    let mut y = zeros::<f32>(case.y.len());
    // The first call resolves the driver's functions.
    plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
        .unwrap();
    gpu.synchronize().unwrap();

    let free = gpu.context().mem_get_info().unwrap().0;
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..8 {
        plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
            .unwrap();
    }
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    gpu.synchronize().unwrap();
    assert_eq!(allocated, 0, "allocations on the host");
    assert_eq!(
        gpu.context().mem_get_info().unwrap().0,
        free,
        "device memory"
    );
    assert_eq!(gpu.download(&y).unwrap(), case.y);
}
