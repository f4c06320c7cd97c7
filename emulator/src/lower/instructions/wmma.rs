//! The instructions of `wmma`: loads, stores and products of matrices that are distributed over a
//! warp.
//!
//! The PTX ISA leaves the layout of fragments to the implementation. Here it is that of `mma`, so
//! that a product is two `mma`s. Loads and stores become ordinary ones, of one element or word
//! each. Counters count them as such, as on a GPU.
//!
//! "Waits until all warp lanes have arrived at load_matrix_sync and then loads" (CUDA C++
//! Programming Guide), and stores likewise: a load sees earlier writes of all lanes of the warp.
//! Other lanes may read stored elements without another barrier. The guide does not state this, but
//! the store is one of the whole warp, and programs (cubecl's) rely on it.

use crate::ir::{
    AccessType, Address, IntBinary, IntTy, MadPart, MatrixSum, MatrixTy, Mma, Op, Reg, Space,
    Special, Width,
};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::draft::Kind;
use crate::lower::instructions::fragment::{Matrix, Place, Role, SHAPES, fragment};
use crate::lower::instructions::matrix::{ELEMENTS, Element, elements};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Operand, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "wmma" => b.wmma(i, m),
        _ => return None,
    })
}

/// Shared parts of loads and stores of one matrix.
struct Accesses {
    matrix: Matrix,
    space: Space,
    /// The address of element (0, 0), 64 bits wide, and a constant offset.
    base: Reg,
    offset: i32,
    /// Distance in bytes between rows (or columns).
    pitch: Reg,
}

impl<'a> Builder<'_, 'a> {
    /// `wmma.load`, `wmma.store`, `wmma.mma`
    fn wmma(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let what = [("load", 0), ("store", 1), ("mma", 2)];
        match m.need_of("`.load`, `.store` or `.mma`", &what)? {
            0 => self.wmma_load(i, m),
            1 => self.wmma_store(i, m),
            _ => self.wmma_mma(i, m),
        }
    }

    fn is_row_major(&self, m: &mut Mods<'a>) -> Result<bool> {
        m.need_of("`.row` or `.col`", &[("row", true), ("col", false)])
    }

    /// The type of a matrix: of the factors, or `None` for 32-bit accumulators.
    fn wmma_type(
        &self,
        role: Role,
        shape: [u32; 3],
        m: &mut Mods<'a>,
    ) -> Result<(Option<MatrixTy>, u32)> {
        let (ty, bits) = match m.need_of("a type", &ELEMENTS)? {
            Element::F32 | Element::S32 if role == Role::Sums => (None, 32),
            Element::Operand(MatrixTy::F16) if role == Role::Sums => (None, 16),
            Element::Operand(ty) if role != Role::Sums => (Some(ty), ty.bits()),
            _ => return m.error("the type is not one of this matrix"),
        };
        if let Some(ty) = ty {
            self.wmma_tier(ty, shape, m)?;
        }
        Ok((ty, bits))
    }

    /// Refuses factors that are not supported in a shape or by the target.
    fn wmma_tier(&self, ty: MatrixTy, shape: [u32; 3], m: &Mods<'a>) -> Result<()> {
        let depth = if ty == MatrixTy::Tf32 { 8 } else { 16 };
        if shape[2] != depth {
            return m.error("the shape does not exist for the type");
        }
        match ty {
            MatrixTy::F16 => self.need(m, 70, (6, 0)),
            MatrixTy::S8 | MatrixTy::U8 => self.need(m, 72, (6, 3)),
            MatrixTy::Bf16 | MatrixTy::Tf32 => self.need(m, 80, (7, 0)),
            _ => m.error("factors of this type are not supported"),
        }
    }

    /// Layout, shape, space and type of a load or store.
    fn wmma_access(
        &self,
        role: Role,
        m: &mut Mods<'a>,
    ) -> Result<(Matrix, Space, Option<MatrixTy>)> {
        self.sync_aligned(m)?;
        let row_major = self.is_row_major(m)?;
        let shape = m.need_of("a shape", &SHAPES)?;
        let spaces = [
            ("global", Space::Global),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
        ];
        let space = m.take_of(&spaces).unwrap_or(Space::Generic);
        let (ty, bits) = self.wmma_type(role, shape, m)?;
        let matrix = Matrix {
            role,
            shape,
            bits,
            row_major,
        };
        Ok((matrix, space, ty))
    }

    fn wmma_load(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let roles = [("a", Role::A), ("b", Role::B), ("c", Role::Sums)];
        let role = m.need_of("`.a`, `.b` or `.c`", &roles)?;
        let (matrix, space, ty) = self.wmma_access(role, m)?;
        let [d, rest @ ..] = i.operands.as_slice() else {
            return m.error("takes 2 or 3 operands");
        };
        let count = matrix.operand_registers(ty);
        let d = self.wmma_destinations(d, count, m)?;
        let accesses = self.wmma_accesses(matrix, space, rest, m)?;
        self.all_lanes_meet()?;
        // The destination may also be an operand, so it is written after all loads.
        let mut loaded = Vec::new();
        for register in 0..matrix.registers() {
            loaded.push(self.load_register(&accesses, register)?);
        }
        for (at, d) in d.into_iter().enumerate() {
            self.copy(d, loaded[at % loaded.len()]);
        }
        Ok(())
    }

    fn wmma_store(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if !m.take("d") {
            return m.error("`.d` is missing");
        }
        let (matrix, space, _) = self.wmma_access(Role::Sums, m)?;
        let (address, source, stride) = match i.operands.as_slice() {
            [address, source] => (address, source, None),
            [address, source, stride] => (address, source, Some(stride)),
            _ => return m.error("takes 2 or 3 operands"),
        };
        let source = self.wmma_sources(source, "a", matrix.registers(), m)?;
        let rest: Vec<_> = std::iter::once(address).chain(stride).cloned().collect();
        let accesses = self.wmma_accesses(matrix, space, &rest, m)?;
        self.all_lanes_meet()?;
        for (register, source) in source.into_iter().enumerate() {
            self.store_register(&accesses, register, source)?;
        }
        self.all_lanes_meet()
    }

    /// Emits a warp barrier.
    fn all_lanes_meet(&mut self) -> Result<()> {
        let mask = self.word(u32::MAX)?;
        self.emit(Op::WarpSync { mask });
        Ok(())
    }

    fn wmma_sources(
        &mut self,
        operand: &Operand<'a>,
        what: &str,
        count: usize,
        m: &Mods<'a>,
    ) -> Result<Vec<Reg>> {
        let parts = elements(operand, what, count, m)?;
        parts
            .iter()
            .map(|part| self.source(part, Type::B32))
            .collect()
    }

    fn wmma_destinations(
        &mut self,
        operand: &Operand<'a>,
        count: usize,
        m: &Mods<'a>,
    ) -> Result<Vec<Reg>> {
        let parts = elements(operand, "d", count, m)?;
        parts
            .iter()
            .map(|part| self.destination(part, Type::B32))
            .collect()
    }

    /// Emits `a op b` of 32 bits.
    fn word_op(&mut self, op: IntBinary, a: Reg, b: u32) -> Result<Reg> {
        let (d, b) = (self.new_reg(Width::W32)?, self.word(b)?);
        let ty = IntTy::U32;
        self.emit(Op::IntBinary { op, ty, d, a, b });
        Ok(d)
    }

    /// Emits `a * b + c`, `c` and the result of 64 bits.
    fn wide(&mut self, a: Reg, b: Reg, c: Reg) -> Result<Reg> {
        let d = self.new_reg(Width::W64)?;
        let (part, ty) = (MadPart::Wide, IntTy::U32);
        self.emit(Op::Mad {
            part,
            ty,
            d,
            a,
            b,
            c,
        });
        Ok(d)
    }

    /// The address and stride of a load or store, as operands.
    fn wmma_accesses(
        &mut self,
        matrix: Matrix,
        space: Space,
        rest: &[Operand<'a>],
        m: &Mods<'a>,
    ) -> Result<Accesses> {
        let (address, stride) = match rest {
            [address] => (address, self.word(matrix.default_stride())?),
            [address, stride] => (address, self.source(stride, Type::U32)?),
            _ => return m.error("takes 2 or 3 operands"),
        };
        let (Address { base, wide, offset }, space) = self.address(address, space)?;
        let one = self.word(1)?;
        let base = match (base.is_none(), wide) {
            (true, _) => self.constant(0, Width::W64)?,
            (false, true) => base,
            (false, false) => {
                let none = self.constant(0, Width::W64)?;
                self.wide(base, one, none)?
            }
        };
        let pitch = self.word_op(IntBinary::MulLo, stride, matrix.bits / 8)?;
        Ok(Accesses {
            matrix,
            space,
            base,
            offset,
            pitch,
        })
    }

    /// The address of the `element`-th element of a register.
    fn element_address(
        &mut self,
        accesses: &Accesses,
        register: usize,
        element: u32,
    ) -> Result<Address> {
        let lane = self.filled(Kind::Special(Special::LaneId), Width::W32)?;
        let Place { line, at, each } = accesses.matrix.place(register);
        let g = self.word_op(IntBinary::Shr, lane, 2)?;
        let g = self.word_op(IntBinary::Add, g, line)?;
        let t = self.word_op(IntBinary::And, lane, 3)?;
        let t = self.word_op(IntBinary::MulLo, t, each)?;
        let t = self.word_op(IntBinary::Add, t, at + element)?;
        let (far, near) = if accesses.matrix.lines_are_dense() {
            (g, t)
        } else {
            (t, g)
        };
        let bytes = self.word(accesses.matrix.bits / 8)?;
        let base = self.wide(far, accesses.pitch, accesses.base)?;
        let base = self.wide(near, bytes, base)?;
        Ok(Address {
            base,
            wide: true,
            offset: accesses.offset,
        })
    }

    /// Number and type of a register's accesses.
    fn register_access(&self, accesses: &Accesses) -> (u32, AccessType) {
        let (packed, bits) = (accesses.matrix.packed(), accesses.matrix.bits);
        let dense = accesses.matrix.lines_are_dense();
        let access = AccessType {
            space: accesses.space,
            bytes: if dense { 4 } else { bits as u8 / 8 },
            count: 1,
            signed: false,
            reg: Width::W32,
            strong: false,
        };
        (if dense { 1 } else { packed }, access)
    }

    fn load_register(&mut self, accesses: &Accesses, register: usize) -> Result<Reg> {
        let (count, access) = self.register_access(accesses);
        let mut whole = Reg::NONE;
        for element in 0..count {
            let addr = self.element_address(accesses, register, element)?;
            let part = self.new_reg(Width::W32)?;
            let d = [part, Reg::NONE, Reg::NONE, Reg::NONE];
            self.emit(Op::Ld { access, d, addr });
            whole = match element {
                0 => part,
                _ => self.insert(part, whole, element * accesses.matrix.bits, accesses)?,
            };
        }
        Ok(whole)
    }

    /// Inserts an element into a register at a bit position.
    fn insert(&mut self, a: Reg, b: Reg, pos: u32, accesses: &Accesses) -> Result<Reg> {
        let d = self.new_reg(Width::W32)?;
        let (pos, len) = (self.word(pos)?, self.word(accesses.matrix.bits)?);
        let w = Width::W32;
        self.emit(Op::Bfi {
            w,
            d,
            a,
            b,
            pos,
            len,
        });
        Ok(d)
    }

    fn store_register(&mut self, accesses: &Accesses, register: usize, whole: Reg) -> Result<()> {
        let (count, access) = self.register_access(accesses);
        for element in 0..count {
            let addr = self.element_address(accesses, register, element)?;
            let part = match element {
                0 => whole,
                _ => self.word_op(IntBinary::Shr, whole, element * accesses.matrix.bits)?,
            };
            let src = [part, Reg::NONE, Reg::NONE, Reg::NONE];
            self.emit(Op::St { access, src, addr });
        }
        Ok(())
    }

    fn wmma_mma(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.sync_aligned(m)?;
        // The layouts describe how the fragments were loaded; the positions of elements do not
        // depend on them.
        let layouts = [self.is_row_major(m)?, self.is_row_major(m)?];
        let shape = m.need_of("a shape", &SHAPES)?;
        let (ty, sum) = self.wmma_types(shape, m)?;
        let matrix = |role, bits| Matrix {
            role,
            shape,
            bits,
            row_major: layouts[0],
        };
        let (a, b) = (matrix(Role::A, ty.bits()), matrix(Role::B, ty.bits()));
        let sums = matrix(Role::Sums, if sum == MatrixSum::F16 { 16 } else { 32 });
        let [d, left, right, c] = operands(i, m)?;
        let left = self.wmma_sources(left, "a", a.operand_registers(Some(ty)), m)?;
        let right = self.wmma_sources(right, "b", b.operand_registers(Some(ty)), m)?;
        let c = self.wmma_sources(c, "c", sums.registers(), m)?;
        let d = self.wmma_destinations(d, sums.registers(), m)?;
        let ((left, left_at), (right, right_at)) = if a.is_left() {
            ((left, a), (right, b))
        } else {
            ((right, b), (left, a))
        };
        let words = (shape[2] * ty.bits() / 32) as u8;
        let mma = Mma {
            rows: 16,
            a: ty,
            b: ty,
            sum,
            words,
        };
        let mut results = Vec::new();
        for (block, c) in c.chunks_exact(sums.registers_of_mma()).enumerate() {
            let a = fragment(&left, left_at, block);
            let b = fragment(&right, right_at, block);
            let mut d = [Reg::NONE; 4];
            for (d, &c) in d.iter_mut().zip(c) {
                *d = self.new_reg(Width::W32)?;
                self.copy(*d, c);
            }
            self.emit(Op::Mma { mma, d, a, b });
            results.extend_from_slice(&d[..c.len()]);
        }
        for (d, result) in d.into_iter().zip(results) {
            self.copy(d, result);
        }
        Ok(())
    }

    /// The types of a product: of the factors and of the sums.
    fn wmma_types(&self, shape: [u32; 3], m: &mut Mods<'a>) -> Result<(MatrixTy, MatrixSum)> {
        let saturate = m.take("satfinite");
        let first = m.need_of("a type", &ELEMENTS)?;
        let second = m.need_of("a type", &ELEMENTS)?;
        // `.f32.f16` are the types of both accumulators; the types of other factors are between
        // them.
        let (ty, last) = match (m.take_of(&ELEMENTS), m.take_of(&ELEMENTS)) {
            (None, None) => (Element::Operand(MatrixTy::F16), second),
            (Some(third), Some(last)) if second == third => (second, last),
            _ => return m.error("the types of the factors are not supported"),
        };
        if first != last {
            return m.error("sums of different types are not supported");
        }
        let Element::Operand(ty) = ty else {
            return m.error("the types of the factors are not supported");
        };
        self.wmma_tier(ty, shape, m)?;
        let sum = match (first, ty) {
            (Element::F32, MatrixTy::F16 | MatrixTy::Bf16 | MatrixTy::Tf32) => MatrixSum::F32,
            (Element::Operand(MatrixTy::F16), MatrixTy::F16) => MatrixSum::F16,
            (Element::S32, MatrixTy::S8 | MatrixTy::U8) if saturate => MatrixSum::S32Sat,
            (Element::S32, MatrixTy::S8 | MatrixTy::U8) => MatrixSum::S32,
            _ => return m.error("the types of factors and sums do not fit"),
        };
        if saturate && sum != MatrixSum::S32Sat {
            return m.error("`.satfinite` is for integers");
        }
        Ok((ty, sum))
    }
}
