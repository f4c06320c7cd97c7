//! Thread-block clusters: values that blocks of a cluster hand each other against what the host
//! computes, and the driver calls about clusters.

mod driver;
mod pipeline;

use ptx_emulator::{Counters, Device, DeviceConfig, LaunchConfig, Module};

const HEAD: &str = "
.version 8.1
.target sm_90
.address_size 64
";

/// A device of 9.0 with a loaded kernel.
struct Bench {
    device: Device,
    kernel: ptx_emulator::LoadedKernel,
}

impl Bench {
    /// From the text of a module without its header, and its kernel's name.
    fn new(body: &str, name: &str) -> Bench {
        let device = Device::new(DeviceConfig {
            memory_bytes: 1 << 24,
            workers: Some(2),
            ..DeviceConfig::new(90)
        });
        let module = Module::parse(&format!("{HEAD}{body}")).expect("a good module");
        let loaded = device.load(&module).expect("loads");
        let kernel = loaded.kernel(name).expect("there");
        Bench { device, kernel }
    }

    /// Device memory with these words.
    fn words(&self, words: &[u32]) -> u64 {
        let memory = self.device.memory();
        let address = memory.alloc(4 * words.len() as u64).expect("memory");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.write(address, &bytes).expect("memory");
        address
    }

    fn read(&self, address: u64, count: usize) -> Vec<u32> {
        let mut bytes = vec![0; 4 * count];
        self.device
            .memory()
            .read(address, &mut bytes)
            .expect("memory");
        let word = |four: &[u8]| u32::from_le_bytes(four.try_into().expect("four bytes"));
        bytes.chunks(4).map(word).collect()
    }

    /// Launches `blocks` blocks of `threads` threads in clusters of `cluster`.
    fn launch(
        &self,
        [blocks, threads, cluster]: [u32; 3],
        params: &[u64],
    ) -> Result<Counters, String> {
        let bytes: Vec<u8> = params
            .iter()
            .flat_map(|param| param.to_le_bytes())
            .collect();
        let config = LaunchConfig {
            cluster: Some([cluster, 1, 1]),
            ..LaunchConfig::linear(blocks, threads)
        };
        let ran = self.device.launch(&self.kernel, config, &bytes);
        ran.map_err(|fault| fault.to_string())
    }
}

/// `reduce(const unsigned* x, unsigned* sums)`: each cluster sums its blocks' words; the last block
/// reads the others' sums.
const REDUCE: &str = "
.visible .entry reduce(.param .u64 x, .param .u64 sums)
{
    .reg .pred %p<4>;
    .reg .b32 %r<20>;
    .reg .b64 %rd<8>;
    .shared .align 4 .b32 sum;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [sums];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mad.lo.u32 %r4, %r2, %r3, %r1;
    mul.wide.u32 %rd3, %r4, 4;
    add.u64 %rd4, %rd1, %rd3;
    setp.ne.u32 %p1, %r1, 0;
    @!%p1 st.shared.u32 [sum], 0;
    bar.sync 0;
    ld.global.u32 %r5, [%rd4];
    red.shared.add.u32 [sum], %r5;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    mov.u32 %r6, %cluster_ctarank;
    mov.u32 %r7, %cluster_nctarank;
    sub.u32 %r8, %r7, 1;
    setp.ne.or.u32 %p2, %r6, %r8, %p1;
    @%p2 bra done;
    mov.u32 %r9, 0;
    mov.u32 %r10, 0;
    mov.u32 %r11, sum;
next:
    mapa.shared::cluster.u32 %r12, %r11, %r10;
    ld.shared::cluster.u32 %r13, [%r12];
    add.u32 %r9, %r9, %r13;
    add.u32 %r10, %r10, 1;
    setp.lt.u32 %p3, %r10, %r7;
    @%p3 bra next;
    mov.u32 %r14, %clusterid.x;
    mul.wide.u32 %rd5, %r14, 4;
    add.u64 %rd6, %rd2, %rd5;
    st.global.u32 [%rd6], %r9;
done:
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    ret;
}
";

#[test]
fn a_cluster_sums_over_its_blocks() {
    let bench = Bench::new(REDUCE, "reduce");
    for (blocks, threads, cluster) in [
        (6, 64, 1),
        (6, 33, 2),
        (9, 64, 3),
        (16, 96, 8),
        (32, 32, 16),
    ] {
        let x: Vec<u32> = (0..blocks * threads).map(|i| i * i % 1009 + 1).collect();
        let clusters = (blocks / cluster) as usize;
        let (input, output) = (bench.words(&x), bench.words(&vec![0; clusters]));
        let counters = bench.launch([blocks, threads, cluster], &[input, output]);
        let counters = counters.expect("no fault");
        let sums: Vec<u32> = x
            .chunks((threads * cluster) as usize)
            .map(|part| part.iter().sum())
            .collect();
        assert_eq!(bench.read(output, clusters), sums);
        // The last block reads a word of each other block.
        let remote = u64::from(cluster - 1) * clusters as u64;
        assert_eq!(counters.distributed.requests, remote);
        assert_eq!(counters.distributed.bytes, 4 * remote);
        assert_eq!(counters.blocks, u64::from(blocks));
    }
}

/// `around(unsigned* arrived, unsigned* x, unsigned* y)`: each block stores its number in the
/// other block of its cluster, which writes it to `x`. After all blocks have done so, block `i`
/// copies `x` of block `i + 3`.
const AROUND: &str = "
.visible .entry around(.param .u64 arrived, .param .u64 x, .param .u64 y)
{
    .reg .pred %p<4>;
    .reg .b32 %r<20>;
    .reg .b64 %rd<10>;
    .shared .align 4 .b32 cell;
    ld.param.u64 %rd1, [arrived];
    ld.param.u64 %rd2, [x];
    ld.param.u64 %rd3, [y];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %nctaid.x;
    mov.u32 %r3, %cluster_ctarank;
    mov.u32 %r4, cell;
    xor.b32 %r5, %r3, 1;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    mapa.shared::cluster.u32 %r6, %r4, %r5;
    st.shared::cluster.u32 [%r6], %r1;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    ld.shared.u32 %r7, [cell];
    mul.wide.u32 %rd4, %r1, 4;
    add.u64 %rd5, %rd2, %rd4;
    st.global.u32 [%rd5], %r7;
    membar.gl;
    atom.global.add.u32 %r8, [%rd1], 1;
spin:
    ld.volatile.global.u32 %r9, [%rd1];
    setp.lt.u32 %p1, %r9, %r2;
    @%p1 bra spin;
    membar.gl;
    add.u32 %r10, %r1, 3;
    rem.u32 %r10, %r10, %r2;
    mul.wide.u32 %rd6, %r10, 4;
    add.u64 %rd7, %rd2, %rd6;
    ld.volatile.global.u32 %r11, [%rd7];
    add.u64 %rd8, %rd3, %rd4;
    st.global.u32 [%rd8], %r11;
    ret;
}
";

#[test]
fn clusters_of_a_cooperative_launch_wait_for_each_other() {
    let bench = Bench::new(AROUND, "around");
    let blocks = 8;
    let addresses = [&[0][..], &[9; 8], &[9; 8]].map(|words| bench.words(words));
    let params: Vec<u8> = addresses.iter().flat_map(|a| a.to_le_bytes()).collect();
    let config = LaunchConfig {
        cluster: Some([2, 1, 1]),
        ..LaunchConfig::linear(blocks, 1)
    };
    let ran = bench
        .device
        .launch_cooperative(&bench.kernel, config, &params);
    ran.expect("no fault");
    let expected: Vec<u32> = (0..blocks).map(|i| ((i + 3) % blocks) ^ 1).collect();
    assert_eq!(bench.read(addresses[2], 8), expected);
}

/// `count(const unsigned* x, unsigned* bins)`: a histogram of 64 bins, a share of them in each
/// block of the cluster. Generic addresses.
const HISTOGRAM: &str = "
.visible .entry count(.param .u64 x, .param .u64 bins)
{
    .reg .pred %p<3>;
    .reg .b32 %r<20>;
    .reg .b64 %rd<14>;
    .shared .align 8 .b32 bin[64];
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [bins];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mad.lo.u32 %r4, %r2, %r3, %r1;
    mul.wide.u32 %rd3, %r4, 4;
    add.u64 %rd4, %rd1, %rd3;
    mov.u64 %rd5, bin;
    cvta.shared.u64 %rd6, %rd5;
    mul.wide.u32 %rd7, %r1, 4;
    add.u64 %rd8, %rd6, %rd7;
    st.u32 [%rd8], 0;
    mov.u32 %r5, %cluster_nctarank;
    div.u32 %r6, 64, %r5;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    ld.global.u32 %r7, [%rd4];
    div.u32 %r8, %r7, %r6;
    rem.u32 %r9, %r7, %r6;
    mul.wide.u32 %rd9, %r9, 4;
    add.u64 %rd10, %rd6, %rd9;
    mapa.u64 %rd11, %rd10, %r8;
    atom.add.u32 %r10, [%rd11], 1;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    setp.ge.u32 %p1, %r1, %r6;
    @%p1 bra done;
    ld.u32 %r11, [%rd8];
    mov.u32 %r12, %cluster_ctarank;
    mad.lo.u32 %r13, %r12, %r6, %r1;
    mul.wide.u32 %rd12, %r13, 4;
    add.u64 %rd13, %rd2, %rd12;
    st.global.u32 [%rd13], %r11;
done:
    ret;
}
";

#[test]
fn a_histogram_lies_over_the_blocks_of_a_cluster() {
    let bench = Bench::new(HISTOGRAM, "count");
    for cluster in [1, 2, 4, 16] {
        let x: Vec<u32> = (0..64 * cluster).map(|i| i * i * 7 % 61 + 3).collect();
        let (input, output) = (bench.words(&x), bench.words(&[7; 64]));
        bench
            .launch([cluster, 64, cluster], &[input, output])
            .expect("no fault");
        let mut bins = [0; 64];
        x.iter().for_each(|&value| bins[value as usize] += 1);
        assert_eq!(bench.read(output, 64), bins);
    }
}
