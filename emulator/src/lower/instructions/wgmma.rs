//! Matrix products of a warpgroup.

use crate::ir::{MatrixSum, MatrixTy, Op, Reg, Wgmma};
use crate::lower::Result;
use crate::lower::builder::Builder;
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
        "wgmma" => b.wgmma(i, m),
        _ => return None,
    })
}

fn is_integer(ty: MatrixTy) -> bool {
    matches!(ty, MatrixTy::S8 | MatrixTy::U8)
}

fn is_fp8(ty: MatrixTy) -> bool {
    matches!(ty, MatrixTy::E4m3 | MatrixTy::E5m2)
}

impl<'a> Builder<'_, 'a> {
    /// `wgmma`
    fn wgmma(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need_sm90a(m)?;
        m.ignore(&["sync", "aligned"]);
        if m.take("fence") {
            self.emit(Op::WgmmaFence);
            return Ok(());
        }
        if m.take("commit_group") {
            self.emit(Op::WgmmaCommit);
            return Ok(());
        }
        if m.take("wait_group") {
            let [pending] = i.operands.as_slice() else {
                return m.error("takes 1 operand");
            };
            let pending = self.immediate(pending)?.min(u64::from(u16::MAX)) as u16;
            self.emit(Op::WgmmaWait { pending });
            return Ok(());
        }
        if !m.take("mma_async") {
            return m.error("the instruction is not supported");
        }
        let (columns, bytes) = m.shape(64)?;
        let satfinite = m.take("satfinite");
        let sums = [
            ("f32", MatrixSum::F32),
            ("f16", MatrixSum::F16),
            ("s32", MatrixSum::S32),
        ];
        let sum = m.need_of("the type of the sums", &sums)?;
        let types = [
            ("f16", MatrixTy::F16),
            ("bf16", MatrixTy::Bf16),
            ("tf32", MatrixTy::Tf32),
            ("e4m3", MatrixTy::E4m3),
            ("e5m2", MatrixTy::E5m2),
            ("s8", MatrixTy::S8),
            ("u8", MatrixTy::U8),
        ];
        let ty = m.need_of("the type of the factors", &types)?;
        let ty_b = m.need_of("the type of the factors", &types)?;
        let (types_fit, columns_fit) = match sum {
            MatrixSum::F32 => (
                ty == ty_b && !is_integer(ty) || is_fp8(ty) && is_fp8(ty_b),
                true,
            ),
            MatrixSum::F16 => (
                ty == MatrixTy::F16 && ty == ty_b || is_fp8(ty) && is_fp8(ty_b),
                true,
            ),
            _ => (
                is_integer(ty) && is_integer(ty_b),
                columns <= 32 || columns.is_multiple_of(16),
            ),
        };
        let shape_fits =
            bytes * ty.bits() == 256 && columns.is_multiple_of(8) && columns <= 256 && columns_fit;
        if !types_fit || !shape_fits || satfinite && sum != MatrixSum::S32 {
            return m.error("there is no product of this shape and these types");
        }
        let wgmma = Wgmma {
            columns: columns as u16,
            ty,
            ty_b,
            sum: if satfinite { MatrixSum::S32Sat } else { sum },
            negate_a: false,
            negate_b: false,
            transpose_a: false,
            transpose_b: false,
        };
        self.product(wgmma, i, m)
    }

    fn product(&mut self, shape: Wgmma, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let [Operand::Vector(d), a, b, scale, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing, or the sums are not in braces");
        };
        let flags: Vec<u64> = rest
            .iter()
            .map(|operand| self.immediate(operand))
            .collect::<Result<_>>()?;
        let in_registers = matches!(a, Operand::Vector(_));
        // Only 16-bit types can be transposed, and only floating-point ones negated.
        let transposes = match (shape.ty.bits(), in_registers) {
            (16, true) => 1,
            (16, false) => 2,
            _ => 0,
        };
        let signs = if is_integer(shape.ty) { 0 } else { 2 };
        if flags.len() != signs + transposes {
            return m.error("has a wrong number of operands");
        }
        let (scales, transposes) = flags.split_at(signs);
        let sign = |i: usize| match scales.get(i).map(|scale| scale.cast_signed()) {
            None | Some(1) => Ok(false),
            Some(-1) => Ok(true),
            _ => m.error("the factors of the matrices must be 1 or -1"),
        };
        if transposes.iter().any(|&t| t > 1) {
            return m.error("whether a matrix is transposed must be 0 or 1");
        }
        let wgmma = Wgmma {
            negate_a: sign(0)?,
            negate_b: sign(1)?,
            transpose_a: transposes.len() == 2 && transposes[0] == 1,
            transpose_b: transposes.last() == Some(&1),
            ..shape
        };
        if d.len() != wgmma.sums() {
            return m.error(&format!(
                "{} registers of sums, where {} are needed",
                d.len(),
                wgmma.sums()
            ));
        }
        let sum_type = match wgmma.sum {
            MatrixSum::F32 => Type::F32,
            MatrixSum::F16 => Type::B32,
            MatrixSum::S32 | MatrixSum::S32Sat => Type::S32,
        };
        let sums: Vec<Reg> = d
            .iter()
            .map(|d| self.destination(d, sum_type))
            .collect::<Result<_>>()?;
        let mut fragment = Vec::new();
        let a = match a {
            Operand::Vector(a) => {
                if a.len() != 4 {
                    return m.error("the left matrix has 4 registers");
                }
                for a in a {
                    fragment.push(self.source(a, Type::B32)?);
                }
                Reg::NONE
            }
            a => self.source(a, Type::B64)?,
        };
        let b = self.source(b, Type::B64)?;
        let scale = self.pred_source(scale)?;
        let list = self.new_list()?;
        self.emit(Op::Wgmma {
            wgmma,
            a,
            b,
            scale,
            list,
        });
        self.emit_list(list, true, &sums);
        self.emit_list(list, false, &fragment);
        Ok(())
    }
}
