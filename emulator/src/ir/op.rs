//! The operations.
//!
//! Longer than other files because it is a table: one enum, which cannot be split, with one entry
//! per operation.

use super::*;

/// Operation of an instruction. `d` is the destination, `a b c` are sources, `p` and `q`
/// predicates.
///
/// An operation with more registers than fit refers to a list in [`Kernel::lists`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    // ---- moves ----
    /// Copies a register.
    Mov {
        w: Width,
        d: Reg,
        a: Reg,
    },
    /// `mov.b64 d, {parts}`; `parts` past the count are `NONE`.
    Pack {
        kind: Packing,
        d: Reg,
        parts: [Reg; 4],
    },
    /// `mov.b64 {parts}, a`; a `NONE` part is discarded.
    Unpack {
        kind: Packing,
        parts: [Reg; 4],
        a: Reg,
    },
    /// `p ? a : b`.
    Selp {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredSrc,
    },
    /// `c >= 0 ? a : b`, `c` signed.
    SlctS32 {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `c >= 0 ? a : b`, `c` f32; NaN selects `b`, -0 selects `a`.
    SlctF32 {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        ftz: bool,
    },
    /// `cvta.space` (to generic) or `cvta.to.space`; `wide` for 64-bit addresses.
    Cvta {
        space: Space,
        to_space: bool,
        wide: bool,
        d: Reg,
        a: Reg,
    },
    /// `isspacep`.
    IsSpace {
        space: Space,
        p: Pred,
        a: Reg,
    },
    ReadClock {
        clock: Clock,
        d: Reg,
    },

    // ---- integers ----
    IntBinary {
        op: IntBinary,
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    IntUnary {
        op: IntUnary,
        ty: IntTy,
        d: Reg,
        a: Reg,
    },
    /// `mad`: a part of `a * b`, plus `c`.
    Mad {
        part: MadPart,
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `sad`: `c + |a - b|`.
    Sad {
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Extended precision: `carry_in` reads the flag, `carry_out` writes it. `c` is `NONE` for
    /// `Add` and `Sub`.
    Carry {
        op: CarryOp,
        ty: IntTy,
        carry_in: bool,
        carry_out: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Lop3 {
        lut: u8,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Funnel shift of the 64 bits `{b, a}` by `c`; `clamp` limits the amount to 32, else it wraps.
    Shf {
        left: bool,
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Prmt {
        mode: PrmtMode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Bit field of `a` at `b`, `c` bits long. `U32`, `S32`, `U64`, `S64`; `b`, `c` 32-bit.
    Bfe {
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Inserts the low `len` bits of `a` into `b` at `pos`. `W32` or `W64`; `pos`, `len` 32-bit.
    Bfi {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        pos: Reg,
        len: Reg,
    },
    /// Bit mask of `b` bits at `a`.
    Bmsk {
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// Extends `a` from its low `b` bits.
    Szext {
        signed: bool,
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `fns.b32 d, mask, base, offset`.
    Fns {
        d: Reg,
        mask: Reg,
        base: Reg,
        offset: Reg,
    },
    /// Four-way byte dot product plus `c`.
    Dp4a {
        a_signed: bool,
        b_signed: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Two-way dot product of 16-bit halves of `a` with two bytes of `b` (upper two if `hi`), plus
    /// `c`.
    Dp2a {
        a_signed: bool,
        b_signed: bool,
        hi: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },

    // ---- floating point ----
    /// `fma` (and `mad.f32`): one rounding.
    Fma {
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    FloatBinary {
        op: FloatBinary,
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    FloatUnary {
        op: FloatUnary,
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
    },
    TestP {
        test: TestP,
        ty: FloatTy,
        p: Pred,
        a: Reg,
    },
    /// `cvt` between two scalar types. Integer to integer: `mode.sat` clamps to the destination's
    /// range; otherwise the low bits are kept. Float to integer always clamps, and NaN gives 0.
    /// Destinations narrower than their register (`reg` is its width) are sign- or zero-extended,
    /// depending on the destination type.
    Cvt {
        to: CvtTy,
        from: CvtTy,
        mode: FloatMode,
        reg: Width,
        d: Reg,
        a: Reg,
    },
    /// `cvt.f16x2.f32 d, a, b` and `cvt.bf16x2.f32`: `a` goes to the upper half.
    CvtPack {
        bf16: bool,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `cvt.rn.satfinite.e4m3x2.f32 d, a, b` and `e5m2x2`: `a` goes to the upper byte. For a pair
    /// of halves (`.f16x2`) `b` is `NONE`.
    CvtToFp8 {
        ty: Fp8,
        relu: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `cvt.rn.f16x2.e4m3x2 d, a` and `e5m2x2`.
    CvtFromFp8 {
        ty: Fp8,
        relu: bool,
        d: Reg,
        a: Reg,
    },
    /// `cvt.pack.sat.{u16,s16,u8,s8}.s32 d, a, b`: for 16-bit types `a` goes to the upper half, `b`
    /// to the lower; for 8-bit types `d = (c << 16) | (a << 8) | b` with `c` the third operand.
    CvtPackInt {
        to: CvtTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },

    // ---- predicates ----
    /// `p = (a cmp b) bool c`, `q = !(a cmp b) bool c`; without a combination `c` is `TRUE` and
    /// `bool` is `And`. For `F16x2` and `Bf16x2`, `p` is the comparison of the low halves and `q`
    /// that of the high halves.
    Setp {
        cmp: Cmp,
        ty: CmpTy,
        ftz: bool,
        combine: BoolOp,
        c: PredSrc,
        p: Pred,
        q: Pred,
        a: Reg,
        b: Reg,
    },
    /// `set`: as `setp`, into a register.
    Set {
        cmp: Cmp,
        ty: CmpTy,
        ftz: bool,
        combine: BoolOp,
        c: PredSrc,
        to: SetTy,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `d = a op b` of predicates; `mov.pred` is `a And TRUE`, `not.pred` has a negated source.
    PredLogic {
        op: BoolOp,
        d: Pred,
        a: PredSrc,
        b: PredSrc,
    },

    // ---- memory ----
    Ld {
        access: AccessType,
        d: [Reg; 4],
        addr: Address,
    },
    St {
        access: AccessType,
        src: [Reg; 4],
        addr: Address,
    },
    /// `atom`, and `red` with `d = NONE`. `c` is the new value of `cas` (then `b` is the compared
    /// one).
    Atom {
        space: Space,
        op: AtomOp,
        ty: AtomTy,
        d: Reg,
        addr: Address,
        b: Reg,
        c: Reg,
    },
    /// `cp.async.{ca,cg}.shared.global [dst], [src], bytes{, src_size}`; `src_size` is `NONE` for
    /// all bytes, else a 32-bit row; bytes past it are zeroed.
    CpAsync {
        bytes: u8,
        dst: Address,
        src: Address,
        src_size: Reg,
    },
    CpAsyncCommit,
    /// Waits until at most `pending` of the latest groups are in flight.
    CpAsyncWait {
        pending: u8,
    },
    /// Waits for all copies, committed or not.
    CpAsyncWaitAll,
    /// `membar`, `fence`: a fence of the host, for blocks on other cores.
    Fence,
    /// `prefetch`, `discard`, `nanosleep`, `pmevent`, `griddepcontrol` and other hints.
    Nop,

    // ---- control ----
    /// Lanes of the guard go to `target`; all lanes reconverge at `reconverge`.
    Bra {
        target: Pc,
        reconverge: Pc,
    },
    /// Each lane goes to entry `index` of [`Kernel::branch_tables`]`[table]`.
    BrxIdx {
        index: Reg,
        table: u16,
        reconverge: Pc,
    },
    Exit,
    /// Ends the launch with a fault.
    Trap,
    /// `__assertfail(message, file, line, function)`: all pointers generic, 64-bit; `line` 32-bit.
    AssertFail {
        message: Reg,
        file: Reg,
        line: Reg,
        function: Reg,
    },
    /// `vprintf(format, arguments)`: both generic, 64-bit. `d` receives the number of arguments.
    Printf {
        d: Reg,
        format: Reg,
        args: Reg,
    },

    // ---- threads of a block or warp ----
    /// Block barrier. `id` is a 32-bit row; `count` a 32-bit row or `NONE` for the whole block.
    /// `aligned`: all lanes of a warp must arrive (`bar`, `barrier.aligned`). `src` is the
    /// predicate of a reduction, `d` its result (`RedPopc`), `p` its result (`RedAnd`, `RedOr`).
    Barrier {
        kind: BarrierKind,
        aligned: bool,
        id: Reg,
        count: Reg,
        src: PredSrc,
        d: Reg,
        p: Pred,
    },
    /// `bar.warp.sync mask`.
    WarpSync {
        mask: Reg,
    },
    /// `mask` is `NONE` for the form without `.sync`. `p` may be `NONE`.
    Shfl {
        mode: ShflMode,
        d: Reg,
        p: Pred,
        a: Reg,
        b: Reg,
        c: Reg,
        mask: Reg,
    },
    /// `d` for `Ballot`, `p` for the others.
    Vote {
        mode: VoteMode,
        d: Reg,
        p: Pred,
        src: PredSrc,
        mask: Reg,
    },
    /// `match.any` / `match.all`; `p` only for `all`, may be `NONE`.
    Match {
        all: bool,
        w: Width,
        d: Reg,
        p: Pred,
        a: Reg,
        mask: Reg,
    },
    Redux {
        op: ReduxOp,
        signed: bool,
        d: Reg,
        a: Reg,
        mask: Reg,
    },
    ActiveMask {
        d: Reg,
    },
    /// `elect.sync d|p, mask`: the lowest lane of `mask`.
    Elect {
        d: Reg,
        p: Pred,
        mask: Reg,
    },

    // ---- matrices ----
    /// `ldmatrix`: `count` (1, 2 or 4) matrices of eight rows of 16 bytes. Lane `8 * j + i` has the
    /// address of row `i` of matrix `j`, which is loaded to `d[j]`. `generic`: the addresses are
    /// generic ones of shared memory.
    LdMatrix {
        count: u8,
        trans: bool,
        generic: bool,
        d: [Reg; 4],
        addr: Address,
    },
    /// `stmatrix`, with the same operands.
    StMatrix {
        count: u8,
        trans: bool,
        generic: bool,
        src: [Reg; 4],
        addr: Address,
    },
    /// `movmatrix`: transposes a matrix of eight rows of 16 bytes.
    MovMatrix {
        d: Reg,
        a: Reg,
    },
    /// `mma.sync`: adds the product of `a` and `b` to `d`.
    Mma {
        mma: Mma,
        d: [Reg; 4],
        a: [Reg; 4],
        b: [Reg; 2],
    },

    // ---- asynchronous operations ----
    /// Registers of the preceding operation's list, read or (`update`) read and written. Exists
    /// only while a kernel is lowered; afterwards the registers are in [`Kernel::lists`].
    Extra {
        list: u16,
        update: bool,
        regs: [Reg; 8],
    },
    /// An operation on an mbarrier object in shared memory; [`MbarrierOp`] documents its operands.
    /// `space`: `Shared`, `Cluster` or `Generic`. `relaxed`: it has no ordering.
    Mbarrier {
        op: MbarrierOp,
        relaxed: bool,
        space: Space,
        addr: Address,
        d: Reg,
        p: Pred,
        a: Reg,
    },
    /// `cp.async.bulk` to shared memory, completed by a barrier. The list has the number of bytes
    /// and, for a multicast in the cluster, the mask of blocks.
    BulkLoad {
        dst: Address,
        src: Address,
        barrier: Address,
        list: u16,
    },
    /// `cp.async.bulk` from shared memory, in a bulk group; `size` bytes. With `reduce` it is
    /// `cp.reduce.async.bulk`.
    BulkStore {
        dst: Address,
        src: Address,
        size: Reg,
        reduce: Option<(AtomOp, AtomTy)>,
    },
    /// `cp.async.bulk` from the block's shared memory to that of another block of the cluster,
    /// completed by a barrier there. The list has the number of bytes. With `reduce` it is
    /// `cp.reduce.async.bulk`.
    BulkShared {
        reduce: Option<SharedReduction>,
        dst: Address,
        src: Address,
        barrier: Address,
        list: u16,
    },
    /// `st.async` of the list's registers to another block of the cluster, completed by a barrier
    /// there: `count` elements of `bytes` bytes.
    StoreAsync {
        bytes: u8,
        addr: Address,
        barrier: Address,
        list: u16,
    },
    /// `red.async`, with the same completion.
    ReduceAsync {
        op: AtomOp,
        ty: AtomTy,
        addr: Address,
        barrier: Address,
        b: Reg,
    },
    /// `barrier.cluster.arrive`
    ClusterArrive {
        relaxed: bool,
        aligned: bool,
    },
    /// `barrier.cluster.wait`
    ClusterWait {
        aligned: bool,
    },
    /// `mapa`: the address in block `b` of the cluster that corresponds to `a`. `generic`: generic
    /// addresses, otherwise `.shared::cluster` ones. `wide`: 64-bit addresses.
    MapBlock {
        generic: bool,
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `getctarank`: the rank of the block whose shared memory contains an address.
    RankOf {
        generic: bool,
        wide: bool,
        d: Reg,
        a: Reg,
    },
    /// `cp.async.bulk.commit_group`
    BulkCommit,
    /// `cp.async.bulk.wait_group`, with or without `.read`: waits until at most `pending` of the
    /// latest groups are in flight.
    BulkWait {
        pending: u16,
    },
    /// `cp.async.bulk.tensor` to shared memory, completed by a barrier. `map`: a generic address.
    /// The list has the coordinates, the offsets of im2col and, for a multicast in the cluster, the
    /// mask of blocks.
    TensorLoad {
        dst: Address,
        map: Address,
        barrier: Address,
        mode: LoadMode,
        list: u16,
    },
    /// `cp.async.bulk.tensor` from shared memory, in a bulk group. The list has the coordinates;
    /// `im2col`: the form `im2col_no_offs`. With `reduce` it is `cp.reduce.async.bulk.tensor`, with
    /// the map's element type.
    TensorStore {
        map: Address,
        src: Address,
        im2col: bool,
        reduce: Option<AtomOp>,
        list: u16,
    },
    /// `tensormap.replace`: replaces a field of the map at an address of global or shared memory.
    ReplaceField {
        space: Space,
        map: Address,
        field: crate::tensor_map::Field,
        value: Reg,
    },
    /// `tensormap.cp_fenceproxy`: copies a map from shared to global memory.
    CopyMap {
        dst: Address,
        src: Address,
    },
    /// `fence.proxy.async` for shared memory; `mbarrier_init`: `fence.mbarrier_init`.
    ProxyFence {
        mbarrier_init: bool,
    },
    /// `wgmma.mma_async`. The list has the accumulators, then the four registers of the left matrix
    /// if it is in registers. `a`, `b`: matrix descriptors of shared memory. `scale`: whether the
    /// product is added to the accumulators or overwrites them.
    Wgmma {
        wgmma: Wgmma,
        a: Reg,
        b: Reg,
        scale: PredSrc,
        list: u16,
    },
    WgmmaFence,
    WgmmaCommit,
    /// `wgmma.wait_group`: waits until at most `pending` of the latest groups are in flight.
    WgmmaWait {
        pending: u16,
    },
    /// `setmaxnreg`.
    SetMaxRegisters {
        count: u16,
        more: bool,
    },
}
