//! Matrix instructions: `mma`, `ldmatrix`, `stmatrix`, `movmatrix`.

use crate::ir::{Address, MatrixSum, MatrixTy, Mma, Op, Reg, Space, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
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
        "mma" => b.mma(i, m),
        "ldmatrix" => b.ldmatrix(i, m),
        "stmatrix" => b.stmatrix(i, m),
        "movmatrix" => b.movmatrix(i, m),
        _ => return None,
    })
}

/// An element type of an `mma`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Operand(MatrixTy),
    F32,
    S32,
}

pub(crate) const ELEMENTS: [(&str, Element); 11] = [
    ("f16", Element::Operand(MatrixTy::F16)),
    ("bf16", Element::Operand(MatrixTy::Bf16)),
    ("tf32", Element::Operand(MatrixTy::Tf32)),
    ("e4m3", Element::Operand(MatrixTy::E4m3)),
    ("e5m2", Element::Operand(MatrixTy::E5m2)),
    ("s8", Element::Operand(MatrixTy::S8)),
    ("u8", Element::Operand(MatrixTy::U8)),
    ("s4", Element::Operand(MatrixTy::S4)),
    ("u4", Element::Operand(MatrixTy::U4)),
    ("f32", Element::F32),
    ("s32", Element::S32),
];

/// Shapes by the rows and the elements along the summed dimension.
const SHAPES: [(&str, (u8, u32)); 7] = [
    ("m8n8k16", (8, 16)),
    ("m8n8k32", (8, 32)),
    ("m16n8k4", (16, 4)),
    ("m16n8k8", (16, 8)),
    ("m16n8k16", (16, 16)),
    ("m16n8k32", (16, 32)),
    ("m16n8k64", (16, 64)),
];

impl<'a> Builder<'_, 'a> {
    /// The `N` source registers of a vector.
    fn sources<const N: usize>(
        &mut self,
        operand: &Operand<'a>,
        what: &str,
        count: usize,
        ty: Type,
        m: &Mods<'a>,
    ) -> Result<[Reg; N]> {
        let parts = elements(operand, what, count, m)?;
        let mut regs = [Reg::NONE; N];
        for (reg, part) in regs.iter_mut().zip(parts) {
            *reg = self.source(part, ty)?;
        }
        Ok(regs)
    }

    /// The destination registers of a vector.
    fn destinations(
        &mut self,
        operand: &Operand<'a>,
        count: usize,
        m: &Mods<'a>,
    ) -> Result<[Reg; 4]> {
        let parts = elements(operand, "d", count, m)?;
        let mut regs = [Reg::NONE; 4];
        for (at, part) in parts.iter().enumerate() {
            let reg = self.destination(part, Type::B32)?;
            if regs.contains(&reg) {
                return m.error("the registers of the destination must differ");
            }
            regs[at] = reg;
        }
        Ok(regs)
    }

    /// Takes `.sync.aligned`, which all of these instructions must have.
    pub(crate) fn sync_aligned(&self, m: &mut Mods<'a>) -> Result<()> {
        if m.take("sync") && m.take("aligned") {
            return Ok(());
        }
        m.error("`.sync.aligned` is missing")
    }

    /// `mma.sync`
    fn mma(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.sync_aligned(m)?;
        let mma = self.mma_kind(m)?;
        if mma.rows == 8 {
            return self.mma_of_eight_rows(mma, i, m);
        }
        let [d, a, b, c] = operands(i, m)?;
        let halves = usize::from(mma.words / 4);
        let (sum, sums) = match mma.sum {
            MatrixSum::F32 => (Type::F32, 4),
            MatrixSum::F16 => (Type::B32, 2),
            MatrixSum::S32 | MatrixSum::S32Sat => (Type::S32, 4),
        };
        let a = self.sources::<4>(a, "a", 2 * halves, Type::B32, m)?;
        let b = self.sources::<2>(b, "b", halves, Type::B32, m)?;
        let c = self.sources::<4>(c, "c", sums, sum, m)?;
        let d = self.destinations(d, sums, m)?;
        // The operation adds to its destination. If the destination is also a source, a temporary
        // register is used.
        let clash = |reg: &Reg| a.contains(reg) || b.contains(reg);
        let crossed = (0..sums).any(|i| (0..sums).any(|j| i != j && d[i] == c[j]));
        let inside = !crossed && !d[..sums].iter().any(clash);
        let mut at = d;
        for index in 0..sums {
            if !inside {
                at[index] = self.new_reg(Width::W32)?;
            }
            self.copy(at[index], c[index]);
        }
        self.emit(Op::Mma { mma, d: at, a, b });
        for index in 0..sums {
            self.copy(d[index], at[index]);
        }
        Ok(())
    }

    /// `mma.m8n8k16` of 8-bit and `mma.m8n8k32` of 4-bit integers: a product of 16 rows whose lower
    /// half is zero.
    fn mma_of_eight_rows(&mut self, mma: Mma, i: &Instruction<'a>, m: &Mods<'a>) -> Result<()> {
        let [d, a, b, c] = operands(i, m)?;
        let [a] = self.sources::<1>(a, "a", 1, Type::B32, m)?;
        let [b] = self.sources::<1>(b, "b", 1, Type::B32, m)?;
        let c = self.sources::<2>(c, "c", 2, Type::S32, m)?;
        let d = self.destinations(d, 2, m)?;
        let zero = self.word(0)?;
        let mut sums = [Reg::NONE; 4];
        for (sum, from) in sums.iter_mut().zip([c[0], c[1], zero, zero]) {
            *sum = self.new_reg(Width::W32)?;
            self.copy(*sum, from);
        }
        self.emit(Op::Mma {
            mma,
            d: sums,
            a: [a, zero, Reg::NONE, Reg::NONE],
            b: [b, Reg::NONE],
        });
        self.copy(d[0], sums[0]);
        self.copy(d[1], sums[1]);
        Ok(())
    }

    /// Copies a 32-bit register, unless source and destination are the same.
    pub(crate) fn copy(&mut self, d: Reg, a: Reg) {
        if d != a {
            let w = Width::W32;
            self.emit(Op::Mov { w, d, a });
        }
    }

    /// Shape, layouts and types, `.m16n8k16.row.col.f32.bf16.bf16.f32`.
    fn mma_kind(&self, m: &mut Mods<'a>) -> Result<Mma> {
        let (rows, depth) = m.need_of("a shape", &SHAPES)?;
        if !m.take("row") || !m.take("col") {
            return m.error("the layouts `.row.col` are missing or not supported");
        }
        let saturate = m.take("satfinite");
        let mut types = [Element::F32; 4];
        for ty in &mut types {
            *ty = m.need_of("a type", &ELEMENTS)?;
        }
        let [d, Element::Operand(a), Element::Operand(b), c] = types else {
            return m.error("the types of the factors are not supported");
        };
        use MatrixTy::{Bf16, E4m3, E5m2, F16, S4, S8, Tf32, U4, U8};
        let fp8 = matches!(a, E4m3 | E5m2);
        let float = fp8 || matches!(a, F16 | Bf16 | Tf32);
        let sum = match c {
            Element::F32 if float => MatrixSum::F32,
            Element::Operand(F16) if a == F16 || fp8 => MatrixSum::F16,
            Element::S32 if !float && saturate => MatrixSum::S32Sat,
            Element::S32 if !float => MatrixSum::S32,
            _ => return m.error("the types of factors and sums do not fit"),
        };
        let alike = matches!(
            (a, b),
            (S8 | U8, S8 | U8) | (S4 | U4, S4 | U4) | (E4m3 | E5m2, E4m3 | E5m2)
        ) || a == b;
        if d != c || !alike || (saturate && float) {
            return m.error("the types of factors and sums do not fit");
        }
        let words = depth * a.bits() / 32;
        if words != 4 && (words != 8 || rows == 8) || rows == 8 && float {
            return m.error("the shape does not exist for the type");
        }
        if rows == 8 || a == F16 && words == 4 {
            self.need(m, 75, (6, 5))?;
        } else if fp8 && words == 8 && sum == MatrixSum::F32 {
            self.need(m, 89, (8, 4))?;
        } else if fp8 {
            self.need(m, 89, (8, 7))?;
        } else {
            self.need(m, 80, (7, 0))?;
        }
        let words = words as u8;
        Ok(Mma {
            rows,
            a,
            b,
            sum,
            words,
        })
    }

    /// `.m8n8.x4.trans.shared.b16`: the number of matrices, whether they are transposed, whether
    /// addresses are generic.
    fn matrix_access(&self, m: &mut Mods<'a>) -> Result<(u8, bool, bool)> {
        self.sync_aligned(m)?;
        if !m.take("m8n8") {
            return m.error("the shape is missing or not supported");
        }
        let count = m.need_of("`.x1`, `.x2` or `.x4`", &[("x1", 1), ("x2", 2), ("x4", 4)])?;
        let trans = m.take("trans");
        let shared = m.take("shared") || m.take("shared::cta");
        if m.need_type()? != Type::B16 {
            return m.error("the type must be .b16");
        }
        Ok((count, trans, !shared))
    }

    /// The address of a row in shared memory, and whether it is generic.
    fn row_address(&mut self, operand: &Operand<'a>, generic: bool) -> Result<(Address, bool)> {
        let space = if generic {
            Space::Generic
        } else {
            Space::Shared
        };
        let (addr, space) = self.address(operand, space)?;
        match space {
            Space::Shared | Space::Generic => Ok((addr, space == Space::Generic)),
            _ => self.error("the address must be one of shared memory"),
        }
    }

    /// `ldmatrix`
    fn ldmatrix(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (count, trans, generic) = self.matrix_access(m)?;
        self.need(m, 75, (6, 5))?;
        let [d, address] = operands(i, m)?;
        let (addr, generic) = self.row_address(address, generic)?;
        let d = self.destinations(d, usize::from(count), m)?;
        self.emit(Op::LdMatrix {
            count,
            trans,
            generic,
            d,
            addr,
        });
        Ok(())
    }

    /// `stmatrix`
    fn stmatrix(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (count, trans, generic) = self.matrix_access(m)?;
        self.need(m, 90, (7, 8))?;
        let [address, src] = operands(i, m)?;
        let (addr, generic) = self.row_address(address, generic)?;
        let src = self.sources::<4>(src, "a", usize::from(count), Type::B32, m)?;
        self.emit(Op::StMatrix {
            count,
            trans,
            generic,
            src,
            addr,
        });
        Ok(())
    }

    /// `movmatrix`
    fn movmatrix(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.sync_aligned(m)?;
        if !m.take("m8n8") || !m.take("trans") || m.need_type()? != Type::B16 {
            return m.error("only `.m8n8.trans.b16` exists");
        }
        self.need(m, 75, (7, 8))?;
        let (d, [a]) = self.registers(Type::B32, [Type::B32], i, m)?;
        self.emit(Op::MovMatrix { d, a });
        Ok(())
    }
}

/// The elements of a vector with a given number of registers.
pub(crate) fn elements<'o, 'a>(
    operand: &'o Operand<'a>,
    what: &str,
    count: usize,
    m: &Mods<'a>,
) -> Result<&'o [Operand<'a>]> {
    let plural = if count == 1 { "" } else { "s" };
    match operand {
        Operand::Vector(parts) if parts.len() == count => Ok(parts),
        Operand::Vector(parts) => m.error(&format!(
            "`{what}` takes {count} register{plural}, not {}",
            parts.len()
        )),
        _ => m.error(&format!(
            "`{what}` must be a vector of {count} register{plural} in braces"
        )),
    }
}
