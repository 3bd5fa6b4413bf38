from trainer.config import paper
from trainer.schedule import rate_at


def test_the_rate_drops_at_quarters_of_the_run() -> None:
    rates = paper().rates
    assert [rate_at(epoch / 90, rates) for epoch in (0, 22.4, 22.5, 44.9, 45, 67.5, 89.99)] == [
        0.01, 0.01, 0.001587, 0.001587, 0.000252, 0.00004, 0.00004,
    ]  # fmt: skip
