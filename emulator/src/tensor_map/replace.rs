//! Modification of maps in a kernel: `tensormap.replace`.

use super::{MAX_RANK, MapError, Swizzle, TensorMap, Walk, element, need};

/// A field of `tensormap.replace`. Ordinals count dimensions from the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `.global_address`
    Address,
    /// `.rank`: one less than the number of dimensions.
    Rank,
    /// `.box_dim`
    BoxDim(u8),
    /// `.global_dim`
    Dim(u8),
    /// `.global_stride`: stride in bytes of the dimension after the ordinal's.
    Stride(u8),
    /// `.global_stride` before PTX 8.5: without the low four bits, which are zero.
    Sixteenths(u8),
    /// `.element_stride`
    ElementStride(u8),
    /// `.elemtype`, whose numbers differ from those of `CUtensorMapDataType`.
    ElementType,
    /// `.interleave_layout`
    Interleave,
    /// `.swizzle_mode`
    Swizzle,
    /// `.fill_mode`
    Fill,
}

/// `CUtensorMapDataType` by the values of `.elemtype` (PTX ISA, table "Tensormap new_val
/// validity").
const ELEMENT_TYPES: [u32; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12];

impl Field {
    /// Returns whether its values have 64 bits.
    pub const fn is_wide(self) -> bool {
        matches!(
            self,
            Field::Address | Field::Stride(_) | Field::Sixteenths(_)
        )
    }
}

impl TensorMap {
    /// The map that `tensormap.replace` reads from 128 zero bytes, with which a kernel that builds
    /// a map starts.
    pub fn blank() -> TensorMap {
        let mut strides = [0; MAX_RANK];
        strides[0] = 1;
        TensorMap {
            address: 0,
            rank: 1,
            data_type: 0,
            size: 1,
            dims: [1; MAX_RANK],
            strides,
            steps: [1; MAX_RANK],
            swizzle: Swizzle::None,
            nan: false,
            walk: Walk::Tile {
                extent: [1; MAX_RANK],
            },
        }
    }

    /// Replaces the value of a field. The consistency of the fields is checked when the map is
    /// used.
    ///
    /// # Errors
    /// The value is invalid for the field, or the map has no such field.
    pub fn replace(mut self, field: Field, value: u64) -> Result<TensorMap, MapError> {
        let tile = |map: &mut TensorMap, i: u8| match &mut map.walk {
            Walk::Tile { extent } if usize::from(i) < MAX_RANK => {
                extent[usize::from(i)] = value as u32;
                Ok(())
            }
            _ => Err(MapError::Invalid("the map has no such dimension of a box")),
        };
        match field {
            Field::Address => {
                need(value.is_multiple_of(16), "the address is no multiple of 16")?;
                self.address = value;
            }
            Field::Rank => {
                need(value < MAX_RANK as u64, "the rank is out of range")?;
                self.rank = value as usize + 1;
            }
            Field::BoxDim(i) => tile(&mut self, i)?,
            Field::Dim(i) => {
                let dim = self.dims.get_mut(usize::from(i));
                let dim = dim.ok_or(MapError::Invalid("the map has no such dimension"))?;
                need(value > 0, "a dimension is outside of 1 to 2^32")?;
                *dim = value & 0xffff_ffff;
            }
            Field::Stride(i) => {
                let stride = self.strides.get_mut(usize::from(i) + 1);
                *stride.ok_or(MapError::Invalid("the map has no such stride"))? = value;
            }
            Field::Sixteenths(i) => return self.replace(Field::Stride(i), value << 4),
            Field::ElementStride(i) => {
                let step = self.steps.get_mut(usize::from(i));
                let step = step.ok_or(MapError::Invalid("the map has no such dimension"))?;
                need(
                    (1..=8).contains(&value),
                    "an element stride is outside of 1 to 8",
                )?;
                // The stride of the innermost dimension is ignored, as in an encoded map.
                *step = if i == 0 { 1 } else { value as u32 };
            }
            Field::ElementType => {
                let ty = ELEMENT_TYPES.get(value as usize);
                let &ty = ty.ok_or(MapError::Unsupported("a packed data type"))?;
                let (size, _) = element(ty)?;
                (self.data_type, self.size, self.strides[0]) = (ty, size, size.into());
            }
            Field::Interleave if value == 0 => {}
            Field::Interleave => return Err(MapError::Unsupported("interleaving")),
            Field::Swizzle => {
                self.swizzle = match value {
                    0 => Swizzle::None,
                    1 => Swizzle::B32,
                    2 => Swizzle::B64,
                    3 => Swizzle::B128,
                    _ => return Err(MapError::Unsupported("swizzling of larger pieces")),
                };
            }
            Field::Fill => {
                need(value <= 1, "the fill does not exist")?;
                self.nan = value == 1;
            }
        }
        Ok(self)
    }

    /// Checks the consistency of the fields, which maps encoded by the driver API always have.
    ///
    /// # Errors
    /// Name of the inconsistency.
    pub fn check(&self) -> Result<(), MapError> {
        let (_, float) = element(self.data_type)?;
        need(float || !self.nan, "NaN fill of integers")?;
        for i in 1..self.rank {
            let stride = self.strides[i];
            need(stride.is_multiple_of(16), "a stride is no multiple of 16")?;
            need(stride < 1 << 40, "a stride is not less than 2^40")?;
        }
        let Walk::Tile { extent } = self.walk else {
            return self.check_row(self.count(0));
        };
        need(
            extent[..self.rank].iter().all(|n| (1..=256).contains(n)),
            "a box dimension is outside of 1 to 256",
        )?;
        self.check_row(extent[0])
    }
}
