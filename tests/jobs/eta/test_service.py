"""How long a job runs, from samples: by model and size, else by model, else by the quote's formula."""

import pytest

from pingvas.jobs.eta.service import FEW, Sample, Work, crowded, measure

SMALL, LARGE = Work("tiny", 128, 128, 10), Work("tiny", 256, 256, 10)
FACTORS = {"tiny": 1.0, "sdxl": 1.5}


def test_each_size_of_a_model_has_its_own_rate() -> None:
    times = measure([Sample(SMALL, 1.0)] * FEW + [Sample(LARGE, 2.0)] * FEW, FACTORS)
    assert times.seconds(SMALL) == pytest.approx(1.0)
    assert times.seconds(LARGE) == pytest.approx(2.0)
    assert times.seconds(Work("tiny", 128, 128, 30)) == pytest.approx(3.0)
    assert times.seconds(Work("tiny", 128, 128, 10, num_images=2)) == pytest.approx(2.0)


def test_a_size_with_few_samples_is_scaled_by_megapixel_steps() -> None:
    times = measure([Sample(SMALL, 1.0)] * FEW, FACTORS)
    assert times.seconds(LARGE) == pytest.approx(4.0)


def test_a_model_with_few_samples_takes_what_the_quote_says() -> None:
    times = measure([Sample(SMALL, 1.0)] * (FEW - 1), FACTORS)
    assert times.mean is None
    assert times.seconds(Work("sdxl", 1024, 1024, 30)) == pytest.approx(30 * 0.5 * 4 * 1.5)


def test_a_crowded_device_moves_as_fast_as_its_seconds_are_used() -> None:
    alone = Sample(SMALL, 2.0, gpu_seconds=1.8)
    stepped_over = Sample(SMALL, 60.0, gpu_seconds=1.5)
    light = Sample(SMALL, 0.5, gpu_seconds=0.01)
    seconds = [sample.seconds for sample in crowded([alone, stepped_over, light], slots=4)]
    assert seconds == pytest.approx([7.2, 6.0, 0.21])  # beside the device a job needs 0.2 s at least


def test_the_newest_samples_set_the_pace() -> None:
    times = measure([Sample(SMALL, 3.0)] * 40 + [Sample(SMALL, 1.0)] * 120, FACTORS)
    assert times.seconds(SMALL) == pytest.approx(3.0)
    assert (times.mean, times.variation) == (3.0, 0.0)
