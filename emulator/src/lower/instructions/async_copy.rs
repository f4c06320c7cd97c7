//! `cp.async`; its bulk forms are in [`crate::lower::instructions::bulk`].

use crate::ir::{Op, Reg, Space, Width};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "cp" => b.cp_async(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `cp.async`
    fn cp_async(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if m.take("reduce") {
            return self.bulk_reduce(i, m);
        }
        if !m.take("async") {
            return m.error("the instruction is not supported");
        }
        if m.take("bulk") {
            return self.bulk(i, m);
        }
        if m.take("mbarrier") {
            return self.copy_arrive(i, m);
        }
        if m.take("commit_group") {
            self.emit(Op::CpAsyncCommit);
        } else if m.take("wait_all") {
            self.emit(Op::CpAsyncWaitAll);
        } else if m.take("wait_group") {
            let [pending] = i.operands.as_slice() else {
                return m.error("takes 1 operand");
            };
            let pending = self.immediate(pending)?.min(255) as u8;
            self.emit(Op::CpAsyncWait { pending });
        } else {
            return self.cp_async_copy(i, m);
        }
        Ok(())
    }

    fn cp_async_copy(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let cg = m.need_of("`.ca` or `.cg`", &[("ca", false), ("cg", true)])?;
        if !(m.take("shared") || m.take("shared::cta")) || !m.take("global") {
            return m.error("copies go from `.global` to `.shared`");
        }
        m.ignore(&["L2::64B", "L2::128B", "L2::256B"]);
        let [dst, src, size, rest @ ..] = self.without_policy(i, m)? else {
            return m.error("operands are missing");
        };
        let bytes = self.immediate(size)?;
        if !matches!((cg, bytes), (_, 16) | (false, 4 | 8)) {
            return m.error(&format!("copies of {bytes} bytes do not exist"));
        }
        let src_size = match rest {
            [] => Reg::NONE,
            [ignore] if self.is_pred(ignore)? => {
                let p = self.pred_source(ignore)?;
                let (a, b) = (self.word(0)?, self.word(bytes as u32)?);
                let d = self.new_reg(Width::W32)?;
                self.emit(Op::Selp {
                    w: Width::W32,
                    d,
                    a,
                    b,
                    p,
                });
                d
            }
            [size] => self.source(size, Type::U32)?,
            _ => return m.error("has a wrong number of operands"),
        };
        let (dst, _) = self.address(dst, Space::Shared)?;
        let (src, _) = self.address(src, Space::Global)?;
        self.emit(Op::CpAsync {
            bytes: bytes as u8,
            dst,
            src,
            src_size,
        });
        Ok(())
    }
}
