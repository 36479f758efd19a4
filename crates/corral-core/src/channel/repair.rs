//! What the next holder of a tenure does with what a dead one left.
//!
//! Each part can be repeated: whoever repairs may be killed too.

use super::layout;
use super::side::Side;
use super::{Channel, ChannelError, item, whole_region};
use crate::doorbell::many;
use crate::region::Memory;
use crate::steps::step;
use crate::sync::Ordering;

impl Channel {
    /// Finishes or undoes what the dead holder of a side's tenure had begun.
    pub(super) fn repair(&self, side: usize) -> Result<(), ChannelError> {
        let (bell, outcome) = if side == layout::PRODUCERS_AT {
            (layout::ITEMS_BELL_AT, self.repair_growth().and_then(|()| self.repair_item()))
        } else {
            (layout::ROOM_BELL_AT, self.repair_consumer())
        };
        // It may have committed and not told anybody.
        many::ring(self.half(bell)?, u32::MAX);
        if side == layout::PRODUCERS_AT {
            self.set_event()?;
        }
        outcome
    }

    fn repair_consumer(&self) -> Result<(), ChannelError> {
        self.repair_hold()?;
        self.repair_retirement()?;
        self.repair_adoption()
    }

    /// A new segment: in use if the committed place is in it, else nobody's.
    fn repair_growth(&self) -> Result<(), ChannelError> {
        let intended = self.take_intent(layout::GROWTH_AT)?;
        if intended != 0 {
            let side = Side::read(self, layout::PRODUCERS_AT)?;
            let owner = layout::segments_owner(self.reference);
            if side.place.segment != intended && self.heap.owner_of(intended)? == owner {
                self.heap.free_as(owner, intended)?;
                step!("repair.freed");
            }
            self.settle_intent(layout::GROWTH_AT)?;
        }
        Ok(())
    }

    /// A block that was being sent: sent if its commit was made, else nobody's.
    fn repair_item(&self) -> Result<(), ChannelError> {
        let intended = self.take_intent(layout::ITEM_AT)?;
        if intended != 0 {
            let target = self.word(layout::ITEM_TARGET_AT)?.load(Ordering::Relaxed);
            let side = Side::read(self, layout::PRODUCERS_AT)?;
            if side.committed.word() != target {
                self.free_item(intended, side.committed.count)?;
            }
            self.settle_intent(layout::ITEM_AT)?;
        }
        Ok(())
    }

    /// A segment that was being left: garbage if the committed place is in a later one.
    fn repair_retirement(&self) -> Result<(), ChannelError> {
        let left = self.take_intent(layout::RETIRING_AT)?;
        if left != 0 {
            let side = Side::read(self, layout::CONSUMERS_AT)?;
            let owner = layout::segments_owner(self.reference);
            if side.place.segment != left && self.heap.owner_of(left)? == owner {
                let serial = |reference| -> Result<u64, ChannelError> {
                    let segment = whole_region(&self.heap, reference)?;
                    Ok(segment.word(layout::SERIAL_AT)?.load(Ordering::Relaxed))
                };
                // A later one is the same block, which was freed and has come back.
                if serial(left)? < serial(side.place.segment)? {
                    self.heap.free_as(owner, left)?;
                    step!("repair.freed");
                }
            }
            self.settle_intent(layout::RETIRING_AT)?;
        }
        Ok(())
    }

    /// A block that was being received: if that was committed and nobody has taken it, it is nobody's.
    fn repair_adoption(&self) -> Result<(), ChannelError> {
        let intended = self.take_intent(layout::ADOPTED_AT)?;
        if intended != 0 {
            let number = self.word(layout::ADOPTED_NUMBER_AT)?.load(Ordering::Relaxed);
            let side = Side::read(self, layout::CONSUMERS_AT)?;
            if side.committed.count != number {
                self.free_item(intended, number)?;
            }
            self.settle_intent(layout::ADOPTED_AT)?;
        }
        Ok(())
    }

    /// Frees the channel's block, if it is the item of this number and not another that has come to lie there.
    fn free_item(&self, reference: u64, number: u64) -> Result<(), ChannelError> {
        let owner = layout::items_owner(self.reference);
        // Acquire (in `owner_of`): the number was written before the block became the channel's.
        if self.heap.owner_of(reference)? == owner && item::number_of(&self.heap, reference)? == number {
            self.heap.free_as(owner, reference)?;
            step!("repair.freed");
        }
        Ok(())
    }

    fn take_intent(&self, at: usize) -> Result<u64, ChannelError> {
        // Acquire: pairs with the Release of the intent: what it says besides was written before.
        Ok(self.word(at)?.load(Ordering::Acquire))
    }

    fn settle_intent(&self, at: usize) -> Result<(), ChannelError> {
        step!("repair.done");
        self.word(at)?.store(0, Ordering::Relaxed);
        Ok(())
    }
}
