"""Begin with what another network has learnt: where its weights come from, which are kept, which learn."""
