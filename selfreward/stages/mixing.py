"""The end of the pair stage: imported preferences beside the iteration's own pairs, or in their place."""

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.mixing import described
from selfreward.mixing import mix as mixed
from selfreward.stages.workplace import Workplace
from selfreward.store import Store
from selfreward.types import RunRow


def mix(place: Workplace) -> str:
    """Take what `pair.imported_share` and `pair.balance_sources` ask for; what was done, to add to a detail.

    Own pairs that are not trained on stay as rows, marked. What was done before a kill is found, and the
    rest is done. Empty where nothing is to be mixed.
    """
    if not place.settings.pair.imported_share:
        return ""
    imported, iteration = place.store.imported, place.iteration
    offers = imported.offers(iteration)
    found = mixed(imported.own_pairs(iteration.id), offers, place.settings.pair, place.settings.seed)
    imported.apply(iteration.id, found)
    told = described(found, offers)
    return f"; {told}" if told else ""


def require_imported(store: Store, run: RunRow, settings: Settings) -> None:
    """Raise BadInput when the settings ask for imported preferences and the run has none."""
    share = settings.pair.imported_share
    if share and not store.imported.origins(run.id):
        raise BadInput(
            f"pair.imported_share is {share:g}, and run {run.name!r} has no imported preferences to train on",
            "Import some: selfreward import preferences FILE (or hub:ORG/NAME, or builtin:ranked), "
            "or leave them out: --set pair.imported_share=0",
        )
