//! An image we created is sound. After a change it is read exactly right or refused.

use arbitrary::Unstructured;

use crate::image::examine;
use crate::poke::{SMALL, poke, sound_image};
use crate::reference::Reference;
use crate::run::run;

/// Takes from the input which image to create and what to change in it.
pub(crate) fn body(data: &[u8]) {
    run(async {
        let mut u = Unstructured::new(data);
        let Ok(mut file) = sound_image(&mut u, SMALL).await else { return };
        assert!(Reference::parse(&file).is_some(), "made an image that has to be refused");
        if poke(&mut u, &mut file).is_ok() {
            examine(&file).await;
        }
    });
}
