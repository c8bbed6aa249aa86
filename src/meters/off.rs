//! Nothing is counted, and no clock is read for it.

use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Holds, Part};
use crate::enforcer::PolicyEnforcer;
use crate::wire::endpoint::Class;

#[derive(Clone)]
pub(crate) struct Meters;

impl Meters {
    pub(crate) const fn new(_agent: &Arc<str>) -> Self {
        Self
    }

    pub(crate) const fn request(&self, _class: Option<Class>) {}

    pub(crate) const fn decided(&self, _counted: &Counted) {}

    pub(crate) const fn inspected(&self, _part: Part, _time: Moment) {}

    pub(crate) const fn held(&self, _what: Holds) -> HeldBytes {
        HeldBytes(())
    }
}

/// No time at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment(());

impl Moment {
    pub(crate) const fn now(_enforcer: &PolicyEnforcer) -> Self {
        Self(())
    }

    pub(crate) const fn at(_time: Duration) -> Self {
        Self(())
    }

    pub(crate) const fn time(self) -> Option<Duration> {
        None
    }

    pub(crate) const fn since(self, _enforcer: &PolicyEnforcer) -> Self {
        Self(())
    }

    pub(crate) const fn plus(self, _other: Self) -> Self {
        Self(())
    }
}

#[derive(Debug, Default)]
pub(crate) struct HeldBytes(());

impl HeldBytes {
    pub(crate) const fn set(&mut self, _bytes: usize) {}
}

#[derive(Debug, Default)]
pub(crate) struct Sampler(());

impl Sampler {
    pub(crate) const fn begin(&mut self, _enforcer: &PolicyEnforcer) -> Option<Moment> {
        None
    }
}

pub(crate) const fn lines_dropped(_count: u64) {}
