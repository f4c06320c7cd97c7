//! Kernels that copy one box, and device memory with numbered bytes.

use ptx_emulator::tensor_map::{MAP_BYTES, Tensor, TensorMap};
use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};

/// `CU_TENSOR_MAP_DATA_TYPE_*` and the bytes of an element.
pub const U8: (u32, u32) = (0, 1);
pub const BF16: (u32, u32) = (9, 2);
pub const U32: (u32, u32) = (2, 4);
pub const S32: (u32, u32) = (3, 4);
pub const U64: (u32, u32) = (4, 8);
pub const F32: (u32, u32) = (7, 4);
pub const F64: (u32, u32) = (8, 8);

const HEAD: &str = "
.version 8.6
.target sm_90a
.address_size 64

.global .align 128 .b8 built[128];
.extern .shared .align 1024 .b8 tile[];

.visible .entry copy(.param .align 64 .b8 map[128], .param .u64 memory)
{
    .reg .pred %p<4>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .shared .align 8 .b64 bar;
    .shared .align 128 .b8 scratch[128];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, tile;
    ld.param.u64 %rd1, [memory];
    mov.b64 %rd2, map;
    cvta.param.u64 %rd3, %rd2;
    setp.ne.u32 %p1, %r1, 0;
";

/// A device, and the address of a tensor of `bytes` bytes there.
pub struct Bench {
    device: Device,
    pub address: u64,
    /// Bits of the encoded map that are flipped before the launch.
    pub poke: Vec<usize>,
    /// Code before the copy; it may change the map's address, which is in `%rd3`.
    pub prologue: String,
    /// The operation of a store that reduces.
    pub reduce: Option<&'static str>,
}

impl Bench {
    /// Byte `i` is `byte(i)`.
    pub fn new(bytes: u64) -> Bench {
        let config = DeviceConfig {
            memory_bytes: 1 << 26,
            workers: Some(1),
            ..DeviceConfig::new(90)
        };
        let device = Device::new(config);
        let memory = device.memory();
        let address = memory
            .alloc_labelled(bytes, Some("tensor"))
            .expect("memory");
        let data: Vec<u8> = (0..bytes).map(byte).collect();
        memory.write(address, &data).expect("memory");
        Bench {
            device,
            address,
            poke: Vec::new(),
            prologue: String::new(),
            reduce: None,
        }
    }

    /// Content of memory at an address.
    pub fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.device
            .memory()
            .read(address, &mut data)
            .expect("memory");
        data
    }

    fn run(&self, body: &str, map: &TensorMap, memory: u64, shared: u32) -> Result<(), String> {
        let module = Module::parse(&format!("{HEAD}{}{body}\n    ret;\n}}\n", self.prologue))
            .expect("a good module");
        let kernel = self.device.load(&module).expect("loads");
        let kernel = kernel.kernel("copy").expect("there");
        let mut params = map.encode().to_vec();
        assert_eq!(params.len(), MAP_BYTES);
        for bit in &self.poke {
            params[bit / 8] ^= 1 << (bit % 8);
        }
        params.extend(memory.to_le_bytes());
        let mut config = LaunchConfig::linear(1, 64);
        config.shared_bytes = shared;
        let ran = self.device.launch(&kernel, config, &params);
        ran.map(|_| ()).map_err(|fault| fault.to_string())
    }

    /// Content of shared memory from a multiple of 1024 bytes on, after a copy of one box.
    pub fn load(
        &self,
        map: &TensorMap,
        at: &[i32],
        offsets: Option<&[u32]>,
    ) -> Result<Vec<u8>, String> {
        let (row, rows) = map.rows();
        let bytes = (row * rows).next_multiple_of(1024);
        let out = self.device.memory().alloc(bytes.into()).expect("memory");
        let mode = if offsets.is_some() { "im2col" } else { "tile" };
        let offsets = offsets.map_or(String::new(), |o| format!(", {{{}}}", list(o)));
        // Bytes that the copy does not write are zero.
        let body = format!(
            "
    mov.u32 %r3, %r1;
CLEAR:
    shl.b32 %r4, %r3, 2;
    add.u32 %r5, %r2, %r4;
    st.shared.u32 [%r5], 0;
    add.u32 %r3, %r3, 64;
    setp.lt.u32 %p2, %r3, {words};
    @%p2 bra CLEAR;
    fence.proxy.async.shared::cta;
    @!%p1 mbarrier.init.shared::cta.b64 [bar], 1;
    @!%p1 fence.mbarrier_init.release.cluster;
    bar.sync 0;
    @%p1 bra WAIT;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {moved};
    cp.async.bulk.tensor.{rank}d.shared::cluster.global.{mode}.mbarrier::complete_tx::bytes \
    [%r2], [%rd3, {{{at}}}], [bar]{offsets};
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p3, [bar], 0;
    @!%p3 bra WAIT;
    mov.u32 %r3, %r1;
OUT:
    shl.b32 %r4, %r3, 2;
    add.u32 %r5, %r2, %r4;
    ld.shared.u32 %r6, [%r5];
    mul.wide.u32 %rd4, %r3, 4;
    add.u64 %rd4, %rd4, %rd1;
    st.global.u32 [%rd4], %r6;
    add.u32 %r3, %r3, 64;
    setp.lt.u32 %p2, %r3, {words};
    @%p2 bra OUT;",
            words = bytes / 4,
            moved = row * rows,
            rank = map.rank,
            at = list(at),
        );
        self.run(&body, map, out, bytes)?;
        let data = self.read(out, bytes as usize);
        self.device.memory().free(out).expect("allocated");
        Ok(data)
    }

    /// Fills shared memory with numbered bytes and stores what a map takes of them.
    pub fn store(&self, map: &TensorMap, at: &[i32]) -> Result<(), String> {
        let (row, rows) = map.rows();
        let bytes = (row * rows).next_multiple_of(1024);
        let im2col = matches!(map.walk, ptx_emulator::tensor_map::Walk::Im2col { .. });
        let mode = if im2col { "im2col_no_offs" } else { "tile" };
        let (copy, mode) = match self.reduce {
            Some(op) => ("cp.reduce.async.bulk.tensor", format!("{op}.{mode}")),
            None => ("cp.async.bulk.tensor", mode.to_owned()),
        };
        let image: Vec<u8> = (0..u64::from(bytes)).map(byte).collect();
        let source = self.device.memory().alloc(bytes.into()).expect("memory");
        self.device.memory().write(source, &image).expect("memory");
        let body = format!(
            "
    mov.u32 %r3, %r1;
IN:
    mul.wide.u32 %rd4, %r3, 4;
    add.u64 %rd4, %rd4, %rd1;
    ld.global.u32 %r6, [%rd4];
    shl.b32 %r4, %r3, 2;
    add.u32 %r5, %r2, %r4;
    st.shared.u32 [%r5], %r6;
    add.u32 %r3, %r3, 64;
    setp.lt.u32 %p2, %r3, {words};
    @%p2 bra IN;
    fence.proxy.async;
    bar.sync 0;
    @%p1 ret;
    {copy}.{rank}d.global.shared::cta.{mode}.bulk_group [%rd3, {{{at}}}], [%r2];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0;",
            words = bytes / 4,
            rank = map.rank,
            at = list(at),
        );
        self.run(&body, map, source, bytes)
    }
}

/// The byte at an offset: neighbours and rows differ.
pub fn byte(i: u64) -> u8 {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn list(values: &[impl ToString]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(", ")
}

/// Position of the 16-byte chunk that holds a byte, in memory swizzled within `span` bytes: told by
/// rows of 128 bytes.
pub fn swizzled(at: usize, span: usize) -> usize {
    let (line, piece, byte) = (at / 128, at / 16 % 8, at % 16);
    let moved = match span {
        128 => piece ^ (line % 8),
        64 => piece ^ (line % 4),
        32 => piece ^ (line % 2),
        _ => piece,
    };
    line * 128 + moved * 16 + byte
}

/// A tensor whose rows are `pitch` bytes apart and whose further dimensions have one row more than
/// they need.
pub fn tensor<'a>(
    (data_type, size): (u32, u32),
    dims: &'a [u64],
    pitch: u64,
    strides: &'a mut Vec<u64>,
) -> Tensor<'a> {
    assert!(dims[0] * u64::from(size) <= pitch);
    let mut stride = pitch;
    for &dim in &dims[1..] {
        strides.push(stride);
        stride *= dim + 1;
    }
    Tensor {
        data_type,
        address: 0,
        dims,
        strides: &strides[..],
        element_strides: &[1; 5][..dims.len()],
        interleave: 0,
        swizzle: 0,
        promotion: 0,
        fill: 0,
    }
}
