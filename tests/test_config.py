import pytest
from pydantic import ValidationError

from forecast_cli.config import RunConfig, config_toml, load_config, presets, read_toml
from forecast_cli.errors import ConfigError


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_options_win_over_set_over_file_over_preset_over_defaults(tmp_path):
    file = written(tmp_path, "[training]\nepochs = 100\nbatch_size = 100\nlearning_rate = 0.1\n")
    assignments = ["training.batch_size=200", "training.learning_rate=0.2"]
    training = load_config(
        preset="navier-stokes-s15",
        file=file,
        assignments=assignments,
        options={"training.learning_rate": 0.3, "training.epochs": None},
    ).training
    assert training.clip == 0.0 != RunConfig().training.clip
    assert (training.ema, training.epochs, training.batch_size, training.learning_rate) == (
        RunConfig().training.ema,
        100,
        200,
        0.3,
    )


def test_of_two_assignments_the_later_holds():
    assert load_config(assignments=["training.epochs=3", "training.epochs=4"]).training.epochs == 4


@pytest.mark.parametrize("name", sorted({*presets()} - {"series", "finn"}))  # these have layers of their own
@pytest.mark.parametrize("model", ["minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru"])
def test_a_preset_brings_hidden_sizes_for_every_model(name, model):
    budget = load_config(preset=name, options={"model.name": model}).model
    assert (budget.name, len(set(budget.hidden))) == (model, 1)
    assert budget.hidden != RunConfig().model.hidden


def test_hidden_sizes_of_the_user_win_over_the_presets(tmp_path):
    assert load_config(preset="geopotential", assignments=["model.hidden=2x3"]).model.hidden == (3, 3)
    assert load_config(preset="geopotential", file=written(tmp_path, "[model]\nhidden = [7]")).model.hidden == (7,)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("4x40", (40,) * 4),
        ("32,32,64", (32, 32, 64)),
        ("8", (8,)),
        ("[5, 6]", (5, 6)),
        ('"2x9"', (9, 9)),
        ("1 x 3", (3,)),
    ],
)
def test_hidden_sizes_are_written_short_or_long(text, sizes):
    assert load_config(assignments=[f"model.hidden={text}"]).model.hidden == sizes


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("training.learning_rate=1e-3", "training", "learning_rate", 1e-3),
        ("training.epochs=50", "training", "epochs", 50),
        ("training.epochs = 50", "training", "epochs", 50),
        ("model.increments=false", "model", "increments", False),
        ("model.norm=none", "model", "norm", "none"),
        ('model.norm="none"', "model", "norm", "none"),
        ("data.memory=512M", "data", "memory", "512M"),
        ("data.variables=u,v", "data", "variables", ("u", "v")),
        ('data.variables=["u", "v"]', "data", "variables", ("u", "v")),
        ("data.split=[0.8, 0.2, 0]", "data", "split", (0.8, 0.2, 0)),
        ("data.split=1979:2014,2015:2016,2017:2018", "data", "split", ("1979:2014", "2015:2016", "2017:2018")),
        ("data.dims=time=t,y=lat", "data", "dims", {"time": "t", "y": "lat"}),
        ('data.select={level = "500"}', "data", "select", {"level": "500"}),
    ],
)
def test_the_value_of_set_is_toml_or_a_bare_word(assignment, section, key, value):
    found = getattr(getattr(load_config(assignments=[assignment]), section), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=3", "did you mean training.epochs?"),
        ("training.contxt=3", "did you mean data.context?"),
        ("model.seed=3", "did you mean training.seed?"),
        ("training.zzz=3", "Choose one of training.epochs, training.batch_size"),
        ("modell.hidden=3", "did you mean model?"),
        ("zzz.hidden=3", "Choose one of data, model, training"),
        ("epochs=3", "expected section.key=value"),
        ("training.epochs", "expected section.key=value"),
        ("training.epochs=0", "training.epochs = 0: input should be greater than or equal to 1"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("training.learning_rate=nan", "training.learning_rate"),
        ("training.ema=1", "training.ema = 1"),
        ("model.norm=batch", "'layer', 'channel', 'group' or 'none'"),
        ("model.hidden=[]", "model.hidden"),
        ("model.hidden=4x0", "model.hidden = 0"),
        ("data.dims=time", "data.dims = 'time'"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(assignment, message):
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=[assignment])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 3", "run.toml: no key 'training.epoch'"),
        ("[trainings]\nepochs = 3", "did you mean training?"),
        ("training = 3", "'training' is a section"),
        ("[training", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_config(file=written(tmp_path, text))
    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_an_unknown_preset_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file=tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="did you mean navier-stokes-s15"):
        load_config(preset="navier-stokes-15")


def test_a_configuration_cannot_be_changed():
    config = load_config()
    with pytest.raises(ValidationError):
        config.training.epochs = 3
    with pytest.raises(ValidationError):
        config.training = config.training


@pytest.mark.parametrize("name", [None, *presets()])
def test_a_configuration_written_as_toml_reads_back_the_same(tmp_path, name):
    options = {
        "data.files": ("a.nc", "b c.nc"),
        "data.split": "0.8,0.1,0.1",
        "data.dims": {"time": "t"},
        "data.select": {"level": "500"},
    }
    config = load_config(
        preset=name, options=options, assignments=["training.learning_rate=1.25e-5", "model.hidden=3,4"]
    )
    file = written(tmp_path, config_toml(config))
    assert RunConfig.model_validate(read_toml(file)) == load_config(file=file) == config


def test_a_size_of_memory_may_be_a_plain_number_of_bytes():
    assert load_config(assignments=["data.memory=1000000"]).data.memory == "1000000"


def test_tables_are_filled_up_layer_by_layer(tmp_path):
    file = written(tmp_path, "[model]\nparameters = {D = 1.0, k = 2.0}\nboundaries = {left = 'wall'}\n")
    assignments = ["model.parameters.D=0.5", "model.boundaries=right=dirichlet:1", "model.closures.a=b"]
    model = load_config(file=file, assignments=assignments).model
    assert model.parameters == {"D": 0.5, "k": 2.0}
    assert model.boundaries == {"left": "wall", "right": "dirichlet:1"}
    assert model.closures == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("model.parameters=1", r"model\.parameters"),
        ("model.boundaries=wall", r"model\.boundaries"),
        ("model.parameters.D=much", r"model\.parameters"),
        ("model.hidden.a=1", r"--set model\.hidden\.a=1: expected section\.key"),
    ],
)
def test_what_is_no_table_is_refused(text, key):
    with pytest.raises(ConfigError, match=key):
        load_config(assignments=[text])


def test_a_model_with_a_preset_of_its_own_name_starts_from_it(tmp_path):
    for given in ({"options": {"model.name": "finn"}}, {"assignments": ["model.name=finn"]}, {"preset": "finn"}):
        config = load_config(**given)
        assert (config.data.context, config.training.optimizer, config.model.hidden) == (1, "lbfgs", (10, 20, 10))
    assert (
        load_config(options={"model.name": "finn"}, assignments=["training.optimizer=adamw"]).training.optimizer
        == "adamw"
    )
    assert load_config(file=written(tmp_path, "[model]\nname = 'finn'\n")).data.horizon == 0


def test_an_equation_without_finn_is_refused():
    for assignment in ("model.equation=burgers", "model.learn=D"):
        with pytest.raises(ConfigError, match="is for --model finn; the model here is minconvlstm"):
            load_config(assignments=[assignment])


CONTENT = '[data]\ncontext = 7\nmask = "~/mask.nc:lsm"\n[model]\nname = "convlstm"\n'


@pytest.mark.parametrize(
    "content",
    [
        CONTENT.encode(),
        b"\xef\xbb\xbf" + CONTENT.encode(),
        CONTENT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + CONTENT.replace("\n", "\r\n").encode(),
    ],
    ids=["plain", "byte order mark", "CRLF", "both"],
)
def test_a_configuration_reads_the_same_from_every_editor(content, tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    found = load_config(file=path)
    assert (found.data.context, found.model.name) == (7, "convlstm")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_configuration_in_another_encoding_is_refused_in_one_line(encoding, tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(f"# größe\n{CONTENT}".encode(encoding))
    with pytest.raises(ConfigError, match=r"c\.toml: not ") as error:
        load_config(file=path)
    assert "\n" not in str(error.value)


def test_the_home_directory_is_written_out_in_a_configuration(tmp_path, monkeypatch):
    from forecast_cli.data.inputs import files_of

    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "c.toml"
    path.write_text(CONTENT)
    assert files_of(load_config(file=path).data) == [f"{tmp_path}/mask.nc"]
