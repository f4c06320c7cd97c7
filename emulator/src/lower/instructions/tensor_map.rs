//! `tensormap`: modification of tensor maps in a kernel.

use crate::ir::{Op, Space};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Type};
use crate::tensor_map::{Field, MAP_BYTES};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "tensormap" => b.tensor_map(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `tensormap`
    fn tensor_map(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need_sm90a(m)?;
        self.need(m, 90, (8, 3))?;
        if m.take("replace") {
            return self.replace_field(i, m);
        }
        if m.take("cp_fenceproxy") {
            return self.copy_map(i, m);
        }
        m.error("the instruction is not supported")
    }

    /// `tensormap.replace.tile.FIELD{.global,.shared::cta}.b1024.TYPE [address]{, ordinal}, value`
    fn replace_field(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if !m.take("tile") || !m.take("b1024") {
            return m.error("`.tile` and `.b1024` are needed");
        }
        let stride = if self.module.version >= (8, 5) {
            Field::Stride
        } else {
            Field::Sixteenths
        };
        type OfDimension = fn(u8) -> Field;
        let of_dimension: [(&str, OfDimension); 4] = [
            ("box_dim", Field::BoxDim),
            ("global_dim", Field::Dim),
            ("global_stride", stride),
            ("element_stride", Field::ElementStride),
        ];
        let plain = [
            ("global_address", Field::Address),
            ("rank", Field::Rank),
            ("elemtype", Field::ElementType),
            ("interleave_layout", Field::Interleave),
            ("swizzle_mode", Field::Swizzle),
            ("fill_mode", Field::Fill),
        ];
        let (address, field, value) = match (m.take_of(&of_dimension), i.operands.as_slice()) {
            (Some(field), [address, ordinal, value]) => {
                let ordinal = self.immediate(ordinal)?;
                if ordinal > 4 {
                    return m.error("the ordinal is more than 4");
                }
                (address, field(ordinal as u8), value)
            }
            (None, [address, value]) => (address, m.need_of("the field", &plain)?, value),
            _ => return m.error("has a wrong number of operands"),
        };
        let ty = if field.is_wide() {
            Type::B64
        } else {
            Type::B32
        };
        if m.need_type()? != ty {
            return m.error(&format!("the type of the field is {ty}"));
        }
        let space = m.take_of(&[("global", Space::Global), ("shared::cta", Space::Shared)]);
        let (map, space) = self.address(address, space.unwrap_or(Space::Generic))?;
        let value = self.source(value, ty)?;
        self.emit(Op::ReplaceField {
            space,
            map,
            field,
            value,
        });
        Ok(())
    }

    /// `tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned
    /// [dst], [src], 128`
    fn copy_map(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.ignore(&["cta", "cluster", "gpu", "sys"]);
        for needed in [
            "global",
            "shared::cta",
            "tensormap::generic",
            "release",
            "sync",
            "aligned",
        ] {
            if !m.take(needed) {
                return m.error(&format!("`.{needed}` is needed"));
            }
        }
        let [dst, src, size] = operands(i, m)?;
        if self.immediate(size)? != MAP_BYTES as u64 {
            return m.error("the size must be 128");
        }
        let (dst, _) = self.address(dst, Space::Global)?;
        let (src, _) = self.address(src, Space::Shared)?;
        self.emit(Op::CopyMap { dst, src });
        Ok(())
    }
}
