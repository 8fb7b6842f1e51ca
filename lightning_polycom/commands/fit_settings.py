"""What `polycom fit` would make of config files, without a run."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from jsonargparse import Namespace
from omegaconf.errors import OmegaConfBaseException

from lightning_polycom.commands.fit import Parser, PolycomCLI, choose_precision, config_files
from lightning_polycom.commands.parsing import one_line
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.errors import InputError
from lightning_polycom.training.module import LanguageModel


class FitSettings(NamedTuple):
    """The settings of a run, as plain values and as what they make."""

    values: dict[str, Any]
    model: LanguageModel
    data: TokenDataModule
    trainer: dict[str, Any]
    """What the Trainer is made with, a strategy or plugin being made already."""

    @property
    def steps(self) -> int:
        """Optimizer steps; below 1 where no end is given."""
        return self.data.max_steps or self.values["trainer"]["max_steps"]


class FitReader(PolycomCLI):
    """The parser of `polycom fit`, made once, which reads any number of runs' settings and runs none."""

    def init_parser(self, **kwargs: Any) -> Parser:
        """A parser whose errors can be caught."""
        self.parser_class = _RaisingParser
        return super().init_parser(**kwargs)

    def parse_arguments(self, parser: Parser, args: Any) -> None:
        """Nothing: what is on the command line is of another command."""
        self.config = Namespace(subcommand=None)

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        """Nothing to find."""

    def instantiate_classes(self) -> None:
        """Nothing to make."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    def read(self, files: list[str], overlay: dict[str, Any]) -> FitSettings:
        """The settings that `files` give, merged in order, with the nested sections of `overlay` over them.

        Raises:
            InputError: whatever `polycom fit` would refuse before it opens data or makes a trainer.
        """
        for path in files:
            if not Path(path).is_file():
                raise InputError(f"base: no file {path}; paths are those from the working directory")
        with tempfile.TemporaryDirectory() as folder:
            over = Path(folder) / "overrides.yaml"
            over.write_text(yaml.safe_dump(overlay), encoding="utf-8")
            arguments = [argument for path in (*files, over) for argument in ("--config", str(path))]
            try:
                config = self._parsed(arguments)
            except UnicodeDecodeError as error:
                raise InputError(f"base: {error.reason} at byte {error.start}; config files are UTF-8 text") from error
            try:
                self.refuse_mistakes("fit", config.fit, [*files, str(over)])
            except InputError as error:
                raise InputError(str(error).removeprefix(f"{over}: ")) from error
        return self._made(config)

    def read_arguments(self, arguments: list[str]) -> FitSettings:
        """The settings that the options of `polycom fit` give.

        Raises:
            InputError: whatever `polycom fit` would refuse before it opens data or makes a trainer.
        """
        try:
            config = self._parsed(arguments)
            self.refuse_mistakes("fit", config.fit, config_files(arguments))
        except UnicodeDecodeError as error:
            raise InputError(f"config: {error.reason} at byte {error.start}; config files are UTF-8 text") from error
        return self._made(config)

    def _parsed(self, arguments: list[str]) -> Namespace:
        try:
            return self.parser.parse_args(["fit", *arguments])
        except OmegaConfBaseException as error:
            raise InputError(f"{str(error).splitlines()[0]}; correct the ${{...}} reference") from error

    def _made(self, config: Namespace) -> FitSettings:
        choose_precision(config.fit.trainer)
        made = self.parser.instantiate_classes(config).fit
        return FitSettings(config.fit.as_dict(), made.model, made.data, vars(made.trainer))


class _RaisingParser(Parser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = one_line(self, message).replace("Subcommand 'fit' does not accept option", "no such key,")
        raise InputError(line) from ex
