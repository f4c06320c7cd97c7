//! Launches, and what is expected of them.
use ptx_emulator::ir::Space;
use ptx_emulator::report::{Access, AccessKind};
use ptx_emulator::{
    Counters, Device, DeviceConfig, Fault, FaultKind, LaunchConfig, LoadedKernel, LoadedModule,
    Memory, Module,
};

/// The lanes that are tried at an edge: the first, one in the middle, the last.
pub const LANES: [u32; 3] = [0, 17, 31];

/// A device with one thread, so that launches are cheap.
pub struct Bench {
    device: Device,
}

impl Bench {
    pub fn new(sm: u32) -> Bench {
        let config = DeviceConfig {
            memory_bytes: 1 << 26,
            workers: Some(1),
            instruction_limit: 1 << 21,
            ..DeviceConfig::new(sm)
        };
        Bench {
            device: Device::new(config),
        }
    }

    pub fn memory(&self) -> &Memory {
        self.device.memory()
    }

    /// An allocation whose bytes have all been written.
    pub fn filled(&self, bytes: u64) -> u64 {
        let address = self.memory().alloc(bytes).expect("room");
        self.memory().fill(address, &[0], bytes).expect("inside");
        address
    }

    pub fn load(&self, module: &Module) -> LoadedModule {
        self.device.load(module).expect("loads")
    }

    /// The kernel `k` of a module.
    pub fn kernel(&self, text: &str) -> LoadedKernel {
        let module = Module::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        self.load(&module)
            .kernel("k")
            .expect("the module has the kernel")
    }

    /// Launches one block.
    pub fn run(
        &self,
        kernel: &LoadedKernel,
        (threads, shared): (u32, u32),
        params: &Params,
    ) -> Result<(), Fault> {
        let mut config = LaunchConfig::linear(1, threads);
        config.shared_bytes = shared;
        self.launch(kernel, config, params).map(|_| ())
    }

    /// Launches a grid of any size; what it counted.
    pub fn launch(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &Params,
    ) -> Result<Counters, Fault> {
        self.device.launch(kernel, config, &params.0)
    }
}

impl Bench {
    /// Launches a cluster of two blocks of one warp.
    pub fn run_cluster(
        &self,
        kernel: &LoadedKernel,
        shared: u32,
        params: &Params,
    ) -> Result<(), Fault> {
        let config = LaunchConfig {
            cluster: Some([2, 1, 1]),
            shared_bytes: shared,
            ..LaunchConfig::linear(2, 32)
        };
        self.launch(kernel, config, params).map(|_| ())
    }
}

/// The bytes of a kernel's parameters.
#[derive(Clone, Default)]
pub struct Params(pub Vec<u8>);

impl Params {
    pub fn u64(mut self, value: u64) -> Params {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Params {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, align: usize, bytes: &[u8]) -> Params {
        self.0.resize(self.0.len().next_multiple_of(align), 0);
        self.0.extend(bytes);
        self
    }
}

/// Instructions of a warp that write `value` to every byte of dynamic shared memory. `%r1` is its
/// address, `thread` the register with the thread's index.
pub fn fill_shared(thread: &str, value: u8) -> String {
    format!(
        "    mov.u32 %r14, %dynamic_smem_size;
    mov.u32 %r15, {thread};
FILL:
    setp.ge.u32 %p4, %r15, %r14;
    @%p4 bra FILLED;
    add.u32 %r16, %r1, %r15;
    st.shared.u8 [%r16], {value};
    add.u32 %r15, %r15, 32;
    bra FILL;
FILLED:"
    )
}

/// The text of a module with the kernel `k`.
pub fn text(sm: u32, variables: &str, params: &str, body: &str) -> String {
    let (version, target) = match sm {
        75 => ("7.8", "sm_75"),
        80 => ("7.8", "sm_80"),
        _ => ("8.0", "sm_90a"),
    };
    format!(
        ".version {version}\n.target {target}\n.address_size 64\n{variables}\n.visible .entry \
        k({params})\n{{\n    \
         .reg .pred %p<8>;\n    .reg .b16 %h<8>;\n    .reg .b32 %r<32>;\n    .reg .f32 \
         %f<8>;\n    .reg .f64 %d<8>;\n    \
         .reg .b64 %rd<16>;\n{body}\n    ret;\n}}\n"
    )
}

pub fn touch(kind: AccessKind, space: Space, address: u64, bytes: u32) -> Access {
    Access {
        kind,
        space,
        address,
        bytes,
    }
}

/// The launch must have been good.
pub fn legal(result: Result<(), Fault>, what: &str) {
    if let Err(fault) = result {
        panic!("legal, but reported: {what}\n{fault}");
    }
}

/// Expected report of the launch.
pub fn reported(result: Result<(), Fault>, what: &str) -> Fault {
    result
        .err()
        .unwrap_or_else(|| panic!("not reported: {what}"))
}

/// The launch must have been reported as an access out of bounds by this lane (`None`: by the
/// warp).
pub fn out_of_bounds(result: Result<(), Fault>, wanted: Access, lane: Option<u32>, what: &str) {
    let fault = reported(result, what);
    match &*fault.kind {
        FaultKind::OutOfBounds { touch, .. } if *touch == wanted => {}
        _ => panic!("{what}: expected {wanted:?} out of bounds\n{fault}"),
    }
    let thread = fault.thread.map(|[x, _, _]| x);
    assert_eq!(thread, lane, "{what}\n{fault}");
}
