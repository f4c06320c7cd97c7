//! The table of operations: per operation its operands, their direction, its purity and its
//! counter class.
//!
//! The operations are grouped in families. A family has the same name here, in
//! [`crate::lower::instructions`] and in `exec::instructions`. An entry has the form
//!
//! ```text
//! Name(purity, class) { with(..) reads(..) updates(..) writes(..) }
//! ```
//!
//! * purity: `pure` (the operation may be removed if its results are unused), `effect`, or
//!   `depends` (on its operands: `has_no_effect` decides).
//! * class: a counter class, or a function from the operation to its class.
//! * `with`: modifiers. `reads`, `updates`, `writes`: registers, predicates and addresses by
//!   direction.
//!
//! [`crate::ir::operations`] generates [`Op`](crate::ir::Op), the visit of its operands, its purity
//! and its class from this table, and `exec::execute` the dispatch to the families.

/// Invokes the macro `$callback` with the table.
///
/// `d` is the destination, `a b c` are sources, `p` and `q` predicates. An operation with more
/// registers than fit refers to a list in [`Kernel::lists`](crate::ir::Kernel::lists).
macro_rules! operations {
    ($callback:ident) => {
        $callback! {
            moves {
                /// Copies a register.
                Mov(pure, Class::Move) { with(w: Width) reads(a: Reg) writes(d: Reg) }
                /// `mov.b64 d, {parts}`; `parts` past the count are `NONE`.
                Pack(pure, Class::Move) {
                    with(kind: Packing) reads(parts: [Reg; 4]) writes(d: Reg)
                }
                /// `mov.b64 {parts}, a`; a `NONE` part is discarded.
                Unpack(pure, Class::Move) {
                    with(kind: Packing) reads(a: Reg) writes(parts: [Reg; 4])
                }
                /// `cvta.space` (to generic) or `cvta.to.space`; `wide` for 64-bit addresses.
                Cvta(pure, Class::Move) {
                    with(space: Space, to_space: bool, wide: bool) reads(a: Reg) writes(d: Reg)
                }
                /// `isspacep`.
                IsSpace(pure, Class::Move) { with(space: Space) reads(a: Reg) writes(p: Pred) }
                ReadClock(pure, Class::Move) { with(clock: Clock) writes(d: Reg) }
            }
            integer {
                IntBinary(pure, Class::Integer) {
                    with(op: IntBinary, ty: IntTy) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                IntUnary(pure, Class::Integer) {
                    with(op: IntUnary, ty: IntTy) reads(a: Reg) writes(d: Reg)
                }
                /// `mad`: a part of `a * b`, plus `c`.
                Mad(pure, Class::Integer) {
                    with(part: MadPart, ty: IntTy) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// `sad`: `c + |a - b|`.
                Sad(pure, Class::Integer) {
                    with(ty: IntTy) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// Extended precision: `carry_in` reads the flag, `carry_out` writes it. `c` is
                /// `NONE` for `Add` and `Sub`.
                Carry(depends, Class::Integer) {
                    with(op: CarryOp, ty: IntTy, carry_in: bool, carry_out: bool)
                    reads(a: Reg, b: Reg, c: Reg)
                    writes(d: Reg)
                }
            }
            bits {
                Lop3(pure, Class::Integer) {
                    with(lut: u8) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// Funnel shift of the 64 bits `{b, a}` by `c`; `clamp` limits the amount to 32,
                /// else it wraps.
                Shf(pure, Class::Integer) {
                    with(left: bool, clamp: bool) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                Prmt(pure, Class::Integer) {
                    with(mode: PrmtMode) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// Bit field of `a` at `b`, `c` bits long. `U32`, `S32`, `U64`, `S64`; `b`, `c`
                /// 32-bit.
                Bfe(pure, Class::Integer) {
                    with(ty: IntTy) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// Inserts the low `len` bits of `a` into `b` at `pos`. `W32` or `W64`; `pos`,
                /// `len` 32-bit.
                Bfi(pure, Class::Integer) {
                    with(w: Width) reads(a: Reg, b: Reg, pos: Reg, len: Reg) writes(d: Reg)
                }
                /// Bit mask of `b` bits at `a`.
                Bmsk(pure, Class::Integer) {
                    with(clamp: bool) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                /// Extends `a` from its low `b` bits.
                Szext(pure, Class::Integer) {
                    with(signed: bool, clamp: bool) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                /// `fns.b32 d, mask, base, offset`.
                Fns(pure, Class::Integer) {
                    reads(mask: Reg, base: Reg, offset: Reg) writes(d: Reg)
                }
                /// Four-way byte dot product plus `c`.
                Dp4a(pure, Class::Integer) {
                    with(a_signed: bool, b_signed: bool)
                    reads(a: Reg, b: Reg, c: Reg)
                    writes(d: Reg)
                }
                /// Two-way dot product of 16-bit halves of `a` with two bytes of `b` (upper two if
                /// `hi`), plus `c`.
                Dp2a(pure, Class::Integer) {
                    with(a_signed: bool, b_signed: bool, hi: bool)
                    reads(a: Reg, b: Reg, c: Reg)
                    writes(d: Reg)
                }
            }
            float {
                /// `fma` (and `mad.f32`): one rounding.
                Fma(pure, float_class) {
                    with(ty: FloatTy, mode: FloatMode) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                FloatBinary(pure, float_class) {
                    with(op: FloatBinary, ty: FloatTy, mode: FloatMode)
                    reads(a: Reg, b: Reg)
                    writes(d: Reg)
                }
                FloatUnary(pure, float_class) {
                    with(op: FloatUnary, ty: FloatTy, mode: FloatMode) reads(a: Reg) writes(d: Reg)
                }
                TestP(pure, float_class) {
                    with(test: TestP, ty: FloatTy) reads(a: Reg) writes(p: Pred)
                }
            }
            convert {
                /// `cvt` between two scalar types. Integer to integer: `mode.sat` clamps to the
                /// destination's range; otherwise the low bits are kept. Float to integer always
                /// clamps, and NaN gives 0. Destinations narrower than their register (`reg` is its
                /// width) are sign- or zero-extended, depending on the destination type.
                Cvt(pure, Class::Convert) {
                    with(to: CvtTy, from: CvtTy, mode: FloatMode, reg: Width)
                    reads(a: Reg)
                    writes(d: Reg)
                }
                /// `cvt.f16x2.f32 d, a, b` and `cvt.bf16x2.f32`: `a` goes to the upper half.
                CvtPack(pure, Class::Convert) {
                    with(bf16: bool, mode: FloatMode) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                /// `cvt.rn.satfinite.e4m3x2.f32 d, a, b` and `e5m2x2`: `a` goes to the upper byte.
                /// For a pair of halves (`.f16x2`) `b` is `NONE`.
                CvtToFp8(pure, Class::Convert) {
                    with(ty: Fp8, relu: bool) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                /// `cvt.rn.f16x2.e4m3x2 d, a` and `e5m2x2`.
                CvtFromFp8(pure, Class::Convert) {
                    with(ty: Fp8, relu: bool) reads(a: Reg) writes(d: Reg)
                }
                /// `cvt.pack.sat.{u16,s16,u8,s8}.s32 d, a, b`: for 16-bit types `a` goes to the
                /// upper half, `b` to the lower; for 8-bit types `d = (c << 16) | (a << 8) | b`
                /// with `c` the third operand.
                CvtPackInt(pure, Class::Convert) {
                    with(to: CvtTy) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
            }
            compare {
                /// `p ? a : b`.
                Selp(pure, Class::Compare) {
                    with(w: Width) reads(p: PredSrc, a: Reg, b: Reg) writes(d: Reg)
                }
                /// `c >= 0 ? a : b`, `c` signed.
                SlctS32(pure, Class::Compare) {
                    with(w: Width) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// `c >= 0 ? a : b`, `c` f32; NaN selects `b`, -0 selects `a`.
                SlctF32(pure, Class::Compare) {
                    with(w: Width, ftz: bool) reads(a: Reg, b: Reg, c: Reg) writes(d: Reg)
                }
                /// `p = (a cmp b) bool c`, `q = !(a cmp b) bool c`; without a combination `c` is
                /// `TRUE` and `bool` is `And`. For `F16x2` and `Bf16x2`, `p` is the comparison of
                /// the low halves and `q` that of the high halves.
                Setp(pure, Class::Compare) {
                    with(cmp: Cmp, ty: CmpTy, ftz: bool, combine: BoolOp)
                    reads(a: Reg, b: Reg, c: PredSrc)
                    writes(p: Pred, q: Pred)
                }
                /// `set`: as `setp`, into a register.
                Set(pure, Class::Compare) {
                    with(cmp: Cmp, ty: CmpTy, ftz: bool, combine: BoolOp, to: SetTy)
                    reads(c: PredSrc, a: Reg, b: Reg)
                    writes(d: Reg)
                }
                /// `d = a op b` of predicates; `mov.pred` is `a And TRUE`, `not.pred` has a negated
                /// source.
                PredLogic(pure, Class::Compare) {
                    with(op: BoolOp) reads(a: PredSrc, b: PredSrc) writes(d: Pred)
                }
            }
            memory {
                Ld(depends, memory_class) {
                    with(access: AccessType) reads(addr: Address) writes(d: [Reg; 4])
                }
                St(effect, memory_class) {
                    with(access: AccessType) reads(addr: Address, src: [Reg; 4])
                }
                /// `prefetch`, `discard`, `nanosleep`, `pmevent`, `griddepcontrol` and other hints.
                Nop(effect, Class::Other)
            }
            atomics {
                /// `atom`, and `red` with `d = NONE`. `c` is the new value of `cas` (then `b` is
                /// the compared one).
                Atom(effect, Class::Atomic) {
                    with(space: Space, op: AtomOp, ty: AtomTy)
                    reads(addr: Address, b: Reg, c: Reg)
                    writes(d: Reg)
                }
            }
            async_copy {
                /// `cp.async.{ca,cg}.shared.global [dst], [src], bytes{, src_size}`; `src_size` is
                /// `NONE` for all bytes, else a 32-bit row; bytes past it are zeroed.
                CpAsync(effect, Class::AsyncCopy) {
                    with(bytes: u8) reads(dst: Address, src: Address, src_size: Reg)
                }
                CpAsyncCommit(effect, Class::AsyncCopy)
                /// Waits until at most `pending` of the latest groups are in flight.
                CpAsyncWait(effect, Class::AsyncCopy) { with(pending: u8) }
                /// Waits for all copies, committed or not.
                CpAsyncWaitAll(effect, Class::AsyncCopy)
            }
            fence {
                /// `membar`, `fence`: a fence of the host, for blocks on other cores.
                Fence(effect, Class::Other)
                /// `fence.proxy.async` for shared memory; `mbarrier_init`: `fence.mbarrier_init`.
                ProxyFence(effect, Class::Other) { with(mbarrier_init: bool) }
            }
            control {
                /// Lanes of the guard go to `target`; all lanes reconverge at `reconverge`.
                Bra(effect, Class::Control) { with(target: Pc, reconverge: Pc) }
                /// Each lane goes to entry `index` of [`Kernel::branch_tables`]`[table]`.
                BrxIdx(effect, Class::Control) {
                    with(table: u16, reconverge: Pc) reads(index: Reg)
                }
                Exit(effect, Class::Control)
                /// Ends the launch with a fault.
                Trap(effect, Class::Control)
                /// Registers of the preceding operation's list, read or (`update`) read and
                /// written. Exists only while a kernel is lowered; afterwards the registers are in
                /// [`Kernel::lists`].
                Extra(effect, Class::Integer) { with(list: u16, update: bool, regs: [Reg; 8]) }
            }
            calls {
                /// `__assertfail(message, file, line, function)`: all pointers generic, 64-bit;
                /// `line` 32-bit.
                AssertFail(effect, Class::Other) {
                    reads(message: Reg, file: Reg, line: Reg, function: Reg)
                }
                /// `vprintf(format, arguments)`: both generic, 64-bit. `d` receives the number of
                /// arguments.
                Printf(effect, Class::Other) { reads(format: Reg, args: Reg) writes(d: Reg) }
            }
            barrier {
                /// Block barrier. `id` is a 32-bit row; `count` a 32-bit row or `NONE` for the
                /// whole block. `aligned`: all lanes of a warp must arrive (`bar`,
                /// `barrier.aligned`). `src` is the predicate of a reduction, `d` its result
                /// (`RedPopc`), `p` its result (`RedAnd`, `RedOr`).
                Barrier(effect, Class::Barrier) {
                    with(kind: BarrierKind, aligned: bool)
                    reads(id: Reg, count: Reg, src: PredSrc)
                    writes(d: Reg, p: Pred)
                }
            }
            collective {
                /// `bar.warp.sync mask`.
                WarpSync(effect, Class::Warp) { reads(mask: Reg) }
                /// `mask` is `NONE` for the form without `.sync`. `p` may be `NONE`.
                Shfl(effect, Class::Warp) {
                    with(mode: ShflMode)
                    reads(a: Reg, b: Reg, c: Reg, mask: Reg)
                    writes(d: Reg, p: Pred)
                }
                /// `d` for `Ballot`, `p` for the others.
                Vote(effect, Class::Warp) {
                    with(mode: VoteMode) reads(mask: Reg, src: PredSrc) writes(d: Reg, p: Pred)
                }
                /// `match.any` / `match.all`; `p` only for `all`, may be `NONE`.
                Match(effect, Class::Warp) {
                    with(all: bool, w: Width) reads(a: Reg, mask: Reg) writes(d: Reg, p: Pred)
                }
                Redux(effect, Class::Warp) {
                    with(op: ReduxOp, signed: bool) reads(a: Reg, mask: Reg) writes(d: Reg)
                }
                ActiveMask(pure, Class::Warp) { writes(d: Reg) }
                /// `elect.sync d|p, mask`: the lowest lane of `mask`.
                Elect(effect, Class::Warp) { reads(mask: Reg) writes(d: Reg, p: Pred) }
            }
            matrix {
                /// `ldmatrix`: `count` (1, 2 or 4) matrices of eight rows of 16 bytes. Lane
                /// `8 * j + i` has the address of row `i` of matrix `j`, which register `j` of `d`
                /// receives.
                /// `generic`: the addresses are generic ones of shared memory.
                LdMatrix(effect, Class::LoadShared) {
                    with(count: u8, trans: bool, generic: bool)
                    reads(addr: Address)
                    writes(d: [Reg; 4])
                }
                /// `stmatrix`, with the same operands.
                StMatrix(effect, Class::StoreShared) {
                    with(count: u8, trans: bool, generic: bool) reads(addr: Address, src: [Reg; 4])
                }
                /// `movmatrix`: transposes a matrix of eight rows of 16 bytes.
                MovMatrix(effect, Class::Warp) { reads(a: Reg) writes(d: Reg) }
                /// `mma.sync`: adds the product of `a` and `b` to `d`.
                Mma(effect, Class::Matrix) {
                    with(mma: Mma) reads(a: [Reg; 4], b: [Reg; 2]) updates(d: [Reg; 4])
                }
            }
            mbarrier {
                /// An operation on an mbarrier object in shared memory; [`MbarrierOp`] documents
                /// its operands. `space`: `Shared`, `Cluster` or `Generic`. `relaxed`: it has no
                /// ordering.
                Mbarrier(effect, Class::Barrier) {
                    with(op: MbarrierOp, relaxed: bool, space: Space)
                    reads(addr: Address, a: Reg)
                    writes(d: Reg, p: Pred)
                }
            }
            bulk {
                /// `cp.async.bulk` to shared memory, completed by a barrier. The list has the
                /// number of bytes and, for a multicast in the cluster, the mask of blocks.
                BulkLoad(effect, Class::AsyncCopy) {
                    with(list: u16) reads(dst: Address, src: Address, barrier: Address)
                }
                /// `cp.async.bulk` from shared memory, in a bulk group; `size` bytes. With `reduce`
                /// it is `cp.reduce.async.bulk`.
                BulkStore(effect, Class::AsyncCopy) {
                    with(reduce: Option<(AtomOp, AtomTy)>)
                    reads(dst: Address, src: Address, size: Reg)
                }
                /// `cp.async.bulk.commit_group`
                BulkCommit(effect, Class::AsyncCopy)
                /// `cp.async.bulk.wait_group`, with or without `.read`: waits until at most
                /// `pending` of the latest groups are in flight.
                BulkWait(effect, Class::AsyncCopy) { with(pending: u16) }
            }
            tensor {
                /// `cp.async.bulk.tensor` to shared memory, completed by a barrier. `map`: a
                /// generic address. The list has the coordinates, the offsets of im2col and, for a
                /// multicast in the cluster, the mask of blocks.
                TensorLoad(effect, Class::AsyncCopy) {
                    with(mode: LoadMode, list: u16)
                    reads(dst: Address, map: Address, barrier: Address)
                }
                /// `cp.async.bulk.tensor` from shared memory, in a bulk group. The list has the
                /// coordinates; `im2col`: the form `im2col_no_offs`. With `reduce` it is
                /// `cp.reduce.async.bulk.tensor`, with the map's element type.
                TensorStore(effect, Class::AsyncCopy) {
                    with(im2col: bool, reduce: Option<AtomOp>, list: u16)
                    reads(map: Address, src: Address)
                }
            }
            tensor_map {
                /// `tensormap.replace`: replaces a field of the map at an address of global or
                /// shared memory.
                ReplaceField(effect, Class::AsyncCopy) {
                    with(space: Space, field: crate::tensor_map::Field)
                    reads(map: Address, value: Reg)
                }
                /// `tensormap.cp_fenceproxy`: copies a map from shared to global memory.
                CopyMap(effect, Class::AsyncCopy) { reads(dst: Address, src: Address) }
            }
            cluster {
                /// `mapa`: the address in block `b` of the cluster that corresponds to `a`.
                /// `generic`: generic addresses, otherwise `.shared::cluster` ones. `wide`: 64-bit
                /// addresses.
                MapBlock(effect, Class::Move) {
                    with(generic: bool, wide: bool) reads(a: Reg, b: Reg) writes(d: Reg)
                }
                /// `getctarank`: the rank of the block whose shared memory contains an address.
                RankOf(effect, Class::Move) {
                    with(generic: bool, wide: bool) reads(a: Reg) writes(d: Reg)
                }
            }
            cluster_barrier {
                /// `barrier.cluster.arrive`
                ClusterArrive(effect, Class::Barrier) { with(relaxed: bool, aligned: bool) }
                /// `barrier.cluster.wait`
                ClusterWait(effect, Class::Barrier) { with(aligned: bool) }
            }
            cluster_copy {
                /// `cp.async.bulk` from the block's shared memory to that of another block of the
                /// cluster, completed by a barrier there. The list has the number of bytes. With
                /// `reduce` it is `cp.reduce.async.bulk`.
                BulkShared(effect, Class::AsyncCopy) {
                    with(reduce: Option<SharedReduction>, list: u16)
                    reads(dst: Address, src: Address, barrier: Address)
                }
                /// `st.async` of the list's registers to another block of the cluster, completed by
                /// a barrier there: `count` elements of `bytes` bytes.
                StoreAsync(effect, Class::StoreShared) {
                    with(bytes: u8, list: u16) reads(addr: Address, barrier: Address)
                }
                /// `red.async`, with the same completion.
                ReduceAsync(effect, Class::Atomic) {
                    with(op: AtomOp, ty: AtomTy) reads(addr: Address, barrier: Address, b: Reg)
                }
            }
            wgmma {
                /// `wgmma.mma_async`. The list has the accumulators, then the four registers of the
                /// left matrix if it is in registers. `a`, `b`: matrix descriptors of shared
                /// memory. `scale`: whether the product is added to the accumulators or overwrites
                /// them.
                Wgmma(effect, Class::Matrix) {
                    with(wgmma: Wgmma, list: u16) reads(a: Reg, b: Reg, scale: PredSrc)
                }
                WgmmaFence(effect, Class::Matrix)
                WgmmaCommit(effect, Class::Matrix)
                /// `wgmma.wait_group`: waits until at most `pending` of the latest groups are in
                /// flight.
                WgmmaWait(effect, Class::Matrix) { with(pending: u16) }
            }
            setmaxnreg {
                /// `setmaxnreg`.
                SetMaxRegisters(effect, Class::Other) { with(count: u16, more: bool) }
            }
        }
    };
}

pub(crate) use operations;
