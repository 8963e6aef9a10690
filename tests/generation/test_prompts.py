"""Prompt files of the kind of I2P: read as they are written, refused with file and line where they are wrong."""

from __future__ import annotations

import csv

import pytest

from loreun_bench.errors import UserError
from loreun_bench.generation.data.prompts import Prompt, read

HEAD = ["", "prompt", "categories", "evaluation_seed", "evaluation_guidance", "sd_model", "case_number"]
ROWS = [
    [0, "a portrait, vivid colors ", "violence, self-harm", 4261553411, 13, "sd", 10],
    [1, 'she said "no", then\nleft 🪦', "sexual", 7, 7.5, "sd", 11],
    [2, "", "Sexual,hate", 8, 7, "sd", 12],
    [3, "asexual plants", "asexual", 9, 7, "sd", 13],
]


@pytest.fixture
def write(tmp_path):
    def make(rows=ROWS, head=HEAD, encoding="utf-8", end="\r\n"):
        path = tmp_path / "prompts.csv"
        with open(path, "w", encoding=encoding, newline="") as file:
            csv.writer(file, lineterminator=end).writerows([head, *rows])
        return path

    return make


def changed(row, column, value):
    rows = [list(each) for each in ROWS]
    rows[row][HEAD.index(column)] = value
    return rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_commas_quotes_newlines_and_a_byte_order_mark_are_read(write, encoding, end):
    found = read(
        write(encoding=encoding, end=end, head=["case_number", *HEAD[1:-1], "x"], rows=[[r[-1], *r[1:-1], ""] for r in ROWS])
    )
    assert found == [
        Prompt(10, "a portrait, vivid colors ", 4261553411, 13.0, ("violence", "self-harm")),
        Prompt(11, 'she said "no", then\nleft 🪦', 7, 7.5, ("sexual",)),
        Prompt(12, "", 8, 7.0, ("Sexual", "hate")),
        Prompt(13, "asexual plants", 9, 7.0, ("asexual",)),
    ]


def test_a_line_break_inside_a_prompt_stays_what_it_is(write):
    assert read(write(changed(0, "prompt", "one\r\ntwo")))[0].prompt == "one\r\ntwo"


def test_a_category_is_chosen_whole_and_whatever_its_case(write):
    assert [p.number for p in read(write(), "sexual")] == [11, 12]
    assert [p.number for p in read(write(), " SELF-HARM ")] == [10]
    with pytest.raises(UserError, match="of category 'sexul'; did you mean 'sexual'"):
        read(write(), "sexul")
    with pytest.raises(UserError, match="known: asexual, hate, self-harm, sexual, violence"):
        read(write(), "zzz")


def test_both_names_of_seed_and_guidance_are_known_and_evaluations_own_win(write):
    plain = ["", "prompt", "categories", "sd_seed", "sd_guidance_scale", "m", "case_number"]
    assert read(write(head=plain)) == read(write())
    both = read(write(head=[*HEAD, "sd_seed"], rows=[[*row, 5] for row in ROWS]))
    assert [p.seed for p in both] == [4261553411, 7, 8, 9]


@pytest.mark.parametrize("column", ["prompt", "evaluation_seed", "evaluation_guidance"])
def test_a_missing_column_is_named_with_those_that_are_there(write, column):
    head = ["other" if name == column else name for name in HEAD]
    with pytest.raises(UserError, match=f"no column {column}.*its columns: .*other"):
        read(write(head=head))


def test_categories_and_guidance_may_be_missing_where_they_are_not_asked_for(write):
    head = ["", "prompt", "x", "evaluation_seed", "y", "m", "case_number"]
    assert {p.categories for p in read(write(head=head), guidance=3.0)} == {()}
    assert {p.guidance for p in read(write(head=head), guidance=3.0)} == {3.0}
    assert read(write(), guidance=3.0)[0].guidance == 13
    with pytest.raises(UserError, match="no column categories"):
        read(write(head=head), "sexual", guidance=3.0)


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (0, "case_number", "", "prompts.csv:2: case_number is empty"),
        (1, "case_number", "x1", "prompts.csv:3: case_number 'x1' is no integer"),
        (2, "case_number", 10, "prompts.csv:5: case_number 10 is already on line 2"),
        (3, "case_number", 11, "prompts.csv:6: case_number 11 is already on line 3"),
        (2, "evaluation_seed", "1.5", "prompts.csv:5: seed '1.5' is no integer"),
        (0, "evaluation_seed", "", "prompts.csv:2: seed is empty"),
        (0, "evaluation_seed", -1, "prompts.csv:2: seed -1 is negative"),
        (0, "evaluation_seed", "1e400", "seed '1e400' is no integer"),
        (1, "case_number", "7.5", "case_number '7.5' is no integer"),
        (0, "prompt", "a\0b", "prompts.csv:2: a NUL character"),
        (0, "evaluation_guidance", "high", "prompts.csv:2: guidance 'high' is no number"),
        (0, "evaluation_guidance", "nan", "guidance 'nan'"),
        (0, "evaluation_guidance", "-1", "guidance '-1'"),
        (0, "evaluation_guidance", "0", "guidance '0' is no number above 0"),
    ],
)
def test_what_is_wrong_is_named_by_the_line_on_which_its_row_begins(write, row, column, value, said):
    with pytest.raises(UserError, match=said):
        read(write(changed(row, column, value)))


def test_files_that_are_no_such_csv_are_refused_in_one_line(write, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="has no prompt in it"):
        read(write(rows=[]))
    path = tmp_path / "prompts.csv"
    path.write_text("")
    with pytest.raises(UserError, match="its columns: none"):
        read(path)
    path.write_bytes("prompt,é".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read(path)
    good = write().read_text(encoding="utf-8")
    path.write_text(good + '4,"never closed,a,1,1,sd,14\n', encoding="utf-8")
    with pytest.raises(UserError, match="no CSV"):
        read(path)
    path.write_text(good + "4,unquoted, comma,a,1,1,sd,14\n", encoding="utf-8")
    with pytest.raises(UserError, match="8 values for 7 columns"):
        read(path)
    path.write_text(good + "\n\n" + "4,fine,a,1,1,sd,14\n", encoding="utf-8")
    assert read(path)[-1].number == 14


def test_a_large_file_is_read_to_its_end(write):
    found = read(write([[i, f"prompt {i}, and more", "a, b", i, 7, "sd", i] for i in range(60_000)]), "b")
    assert len(found) == 60_000
    assert found[-1] == Prompt(59_999, "prompt 59999, and more", 59_999, 7.0, ("a", "b"))


OFFICIAL = ["prompt", "categories", "hard", "inappropriate_percentage", "sd_seed", "sd_guidance_scale", "sd_model"]


def test_the_official_file_of_i2p_has_no_case_numbers_and_the_line_is_the_case(tmp_path):
    path = tmp_path / "i2p.csv"
    path.write_text(
        ",".join(OFFICIAL) + '\n"one,\ntwo",sexual,0,0.4,3841990001,7.0,sd\nthree,"hate, sexual",1,.5,5,9,sd\n'
    )
    assert read(path, "sexual") == [
        Prompt(2, "one,\ntwo", 3841990001, 7.0, ("sexual",)), Prompt(4, "three", 5, 9.0, ("hate", "sexual"))
    ]  # fmt: skip


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_other_separators_and_names_in_capitals_are_read(tmp_path, separator, encoding):
    path = tmp_path / "prompts.csv"
    rows = [["Prompt", "SD_Seed", " Evaluation_Guidance", "Case_Number"], ["a, b", "7.0", "7.5", "0.0"]]
    path.write_text("\n".join(separator.join(row) for row in rows), encoding=encoding)
    assert read(path) == [Prompt(0, "a, b", 7, 7.5)]


def test_a_comma_is_a_decimal_point_where_semicolons_separate(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt;sd_seed;sd_guidance_scale\na, b;1;7,5\n")
    assert read(path)[0].guidance == 7.5


def test_seeds_over_2_to_the_63_are_taken_modulo_it_and_that_is_said(write):
    said = []
    found = read(write([[0, "a", "b", 2**63 + 5, 7, "sd", 1], [0, "a", "b", 7, 7, "sd", 2]]), note=said.append)
    assert [p.seed for p in found] == [5, 7]
    assert len(said) == 1
    assert "1 seeds of 2^63 and more" in said[0]
    said.clear()
    read(write(), note=said.append)
    assert said == []


def test_plain_text_has_one_prompt_a_line(tmp_path):
    path, said = tmp_path / "prompts.txt", []
    path.write_bytes("\ufeffa cat, sitting\r\n\r\n  a dog \u2028; two\r\n".encode())
    found = read(path, guidance=3.0, note=said.append)
    assert found == [Prompt(1, "a cat, sitting", None, 3.0), Prompt(3, "a dog \u2028; two", None, 3.0)]
    assert "one prompt a line" in said[0]
    for settings, lacking in (({"category": "x", "guidance": 3.0}, "categories"), ({}, "guidance of their own")):
        with pytest.raises(UserError, match=f"have no {lacking}"):
            read(path, **settings)
    path.write_text("prompt,sd_seed\na cat,3\n")  # a table, whatever it is called
    assert read(path, guidance=1.0) == [Prompt(2, "a cat", 3, 1.0)]
    table = tmp_path / "prompts.csv"
    table.write_text("a cat\na dog\n")
    with pytest.raises(UserError, match=r"no column prompt.*one prompt a line is called .txt"):
        read(table, guidance=3.0)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,sd_seed,Prompt\na,1,b\n")
    with pytest.raises(UserError, match="two columns 'prompt'"):
        read(path, guidance=1.0)


@pytest.mark.parametrize(
    ("seed", "guidance"),
    [("seed", "guidance"), ("Seed", "guidance_scale"), ("sd_seed", "guidance"), ("evaluation_seed", "sd_guidance_scale")],
)
def test_seed_and_guidance_are_columns_by_any_of_their_names(tmp_path, seed, guidance):
    path = tmp_path / "own.csv"
    path.write_text(f"prompt,{seed},{guidance}\na cat,5,2.5\n")
    assert read(path) == [Prompt(2, "a cat", 5, 2.5)]
    path.write_text("prompt,guidance,seed,sd_guidance_scale,sd_seed\na cat,1,2,3.5,4\n")
    assert read(path) == [Prompt(2, "a cat", 4, 3.5)]


def test_blank_lines_and_comments_of_plain_text_are_passed_over_and_lines_keep_their_numbers(tmp_path):
    path, said = tmp_path / "prompts.TXT", []
    path.write_text("# of mine\n\n  a cat, and a dog  \n   \n\t# another\na #hashtag\n", encoding="utf-8-sig")
    assert read(path, None, 7.5, said.append) == [
        Prompt(3, "a cat, and a dog", None, 7.5), Prompt(6, "a #hashtag", None, 7.5),
    ]  # fmt: skip
    assert "; comments (lines that begin with #): 2" in said[0]
    path.write_text("# nothing\n\n")
    with pytest.raises(UserError, match="has no prompt in it"):
        read(path, None, 7.5)
