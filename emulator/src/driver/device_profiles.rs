//! The emulated cards, and the attributes of their devices.

/// An emulated card.
pub struct Card {
    pub capability: u32,
    pub name: &'static str,
    pub multiprocessors: i32,
    pub clock_khz: i32,
    pub memory_clock_khz: i32,
    pub bus_bits: i32,
    pub l2_bytes: i32,
    pub memory_bytes: u64,
    pub shared_per_block_optin: i32,
    pub shared_per_multiprocessor: i32,
    pub threads_per_multiprocessor: i32,
    pub blocks_per_multiprocessor: i32,
    /// Shared memory that the system reserves per block, in bytes.
    pub reserved_shared: i32,
    /// Ratio of single-precision to double-precision throughput.
    pub single_to_double: i32,
}

/// Shared memory per block without opt-in, in bytes.
pub const SHARED_PER_BLOCK: i32 = 49152;

/// Registers per SM, and the maximum per block.
pub const REGISTERS: i32 = 65536;

static CARDS: [Card; 3] = [
    Card {
        capability: 75,
        name: "ptx-emulator sm_75 (posing as T4)",
        multiprocessors: 40,
        clock_khz: 1_590_000,
        memory_clock_khz: 5_001_000,
        bus_bits: 256,
        l2_bytes: 4 << 20,
        memory_bytes: 15_828_320_256,
        shared_per_block_optin: 65_536,
        shared_per_multiprocessor: 65_536,
        threads_per_multiprocessor: 1024,
        blocks_per_multiprocessor: 16,
        reserved_shared: 0,
        single_to_double: 32,
    },
    Card {
        capability: 80,
        name: "ptx-emulator sm_80 (posing as A100)",
        multiprocessors: 108,
        clock_khz: 1_410_000,
        memory_clock_khz: 1_593_000,
        bus_bits: 5120,
        l2_bytes: 40 << 20,
        memory_bytes: 85_094_367_232,
        shared_per_block_optin: 166_912,
        shared_per_multiprocessor: 167_936,
        threads_per_multiprocessor: 2048,
        blocks_per_multiprocessor: 32,
        reserved_shared: 1024,
        single_to_double: 2,
    },
    Card {
        capability: 90,
        name: "ptx-emulator sm_90 (posing as H200)",
        multiprocessors: 132,
        clock_khz: 1_980_000,
        memory_clock_khz: 3_201_000,
        bus_bits: 6144,
        l2_bytes: 60 << 20,
        memory_bytes: 150_110_011_392,
        shared_per_block_optin: 232_448,
        shared_per_multiprocessor: 233_472,
        threads_per_multiprocessor: 2048,
        blocks_per_multiprocessor: 32,
        reserved_shared: 1024,
        single_to_double: 2,
    },
];

impl Card {
    /// The card of a capability, if there is one.
    pub fn of(capability: u32) -> Option<&'static Card> {
        CARDS.iter().find(|card| card.capability == capability)
    }

    /// The value of `CUdevice_attribute` number `attribute` on device `ordinal`; `None` for an
    /// unknown number.
    pub fn attribute(&self, attribute: i32, ordinal: i32) -> Option<i32> {
        let ampere = i32::from(self.capability >= 80);
        Some(match attribute {
            13 => self.clock_khz,
            16 => self.multiprocessors,
            33 => 1 + ordinal / 32,
            34 => ordinal % 32,
            36 => self.memory_clock_khz,
            37 => self.bus_bits,
            38 => self.l2_bytes,
            39 => self.threads_per_multiprocessor,
            75 => (self.capability / 10) as i32,
            76 => (self.capability % 10) as i32,
            81 => self.shared_per_multiprocessor,
            85 => ordinal,
            87 => self.single_to_double,
            97 => self.shared_per_block_optin,
            106 => self.blocks_per_multiprocessor,
            108 => ampere * (self.l2_bytes / 4 * 3),
            109 => ampere * (128 << 20),
            111 => self.reserved_shared,
            // Clusters, tensor maps.
            120 | 127 => i32::from(self.capability >= 90),
            _ => return common_attribute(attribute),
        })
    }
}

/// The attributes that are the same on every card.
fn common_attribute(attribute: i32) -> Option<i32> {
    Some(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 | 11 => i32::MAX,
        6 | 7 => 65535,
        8 => SHARED_PER_BLOCK,
        9 => 65536,
        10 | 51 => 32,
        12 | 82 => REGISTERS,
        14 | 30 => 512,
        15 | 19 | 31 | 41 | 44 => 1,
        17 | 18 | 20 | 32 | 35 | 50 => 0,
        21..=29 | 42 | 43 | 45..=49 | 52..=74 | 77 => texture_limit(attribute),
        40 => 3,
        78..=80 | 83 | 89..=91 | 95 | 99 | 115 => 1,
        84 | 86 | 88 | 96 | 98 | 107 | 110 | 112..=114 | 116..=119 => 0,
        // Waits on memory that another stream or the host writes may never end, since work may run
        // at the call.
        92..=94 => 0,
        // No virtual memory management, no sharing between processes, no access to the host's page
        // tables.
        100..=105 => 0,
        // Features introduced after thread block clusters (120) are not supported.
        121..=126 | 128..=160 => 0,
        _ => return None,
    })
}

/// Texture and surface limits: sizes that all of the cards support. Textures themselves are not
/// supported.
fn texture_limit(attribute: i32) -> i32 {
    match attribute {
        21 | 22 | 73 | 74 => 131_072,
        23 | 70 | 71 => 65_536,
        24..=26 | 47..=49 => 16_384,
        27 | 28 | 42 | 45 | 46 | 52..=64 | 66 | 67 | 77 => 32_768,
        29 | 43 | 65 => 2048,
        68 => 2046,
        69 => 1 << 28,
        _ => 2_097_120,
    }
}
