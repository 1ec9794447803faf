from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.planning import plan, prepare


def test_the_plan_counts_what_training_uses(series):
    options = {"model.hidden": "4", "data.context": 4, "data.horizon": 2, "training.batch_size": 3}
    config = load_config(options=options)
    found = plan(config, open_fields([str(series)]))
    prepared = prepare(config, open_fields([str(series)]))
    assert found.parameters == sum(parameter.numel() for parameter in prepared.model.parameters())
    assert (
        (found.training_windows, found.validation_windows)
        == (len(prepared.training), len(prepared.validation))
        == (37, 4)
    )
    assert found.steps_per_epoch == 13
    assert found.window_shape == (3, 6, 1, 6, 8)
    assert found.data_bytes == 51 * 6 * 8 * 4
    assert found.step_bytes > 16 * found.parameters
