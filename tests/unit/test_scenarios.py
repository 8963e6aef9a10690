"""Each way to choose what is forgotten: the pictures that were meant, and one line for those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from loreun_bench.classification.config import Scenario
from loreun_bench.classification.data.lists import match
from loreun_bench.classification.data.splits import Population, draw_all, requests, spelled
from loreun_bench.errors import UserError

N, M = 600, 120
NAMES = ("1", "2", "11", "cat")
LABELS, TEST = np.arange(N) % 4, np.arange(M) % 4


def text(values):
    return np.array(list(values), dtype=object)


def people(**more):
    table = {"file": text(f"{NAMES[i % 4]}/{i:03}.png" for i in range(N)), "subclass": text(f"s{i % 8}" for i in range(N))}
    test = {"file": text(f"{NAMES[i % 4]}/t{i:03}.png" for i in range(M)), "subclass": text(f"s{i % 8}" for i in range(M))}
    return Population(LABELS, TEST, NAMES, table | more.pop("table", {}), test | more.pop("test_table", {}), **more)


def split(scenario, crowd=None, validation=0.1, seed=0, **options):
    return draw_all(crowd or people(), Scenario(**scenario), validation=validation, seed=seed, **options)


def one(scenario, *args, **options):
    (found,) = split(scenario, *args, **options)
    return found


def apart(found):
    """Forget, retain and validation share nothing and make up all."""
    parts = [set(part.tolist()) for part in (found.forget, found.retain, found.validation)]
    return sum(map(len, parts)) == len(set.union(*parts)) == N


def test_a_class_is_meant_by_name_not_by_its_place():
    found = one({"kind": "class", "forget_class": 2})
    assert set(LABELS[found.forget]) == {1}  # class "2" stands second; third stands "11"
    assert set(TEST[found.test_forget]) == {1}
    assert Scenario(kind="class", forget_class=2).label == "class-2"


def test_several_classes_and_part_of_a_class():
    found = one({"kind": "class", "forget_class": ["11", "CAT"]})
    assert set(LABELS[found.forget]) == set(TEST[found.test_forget]) == {2, 3}
    whole = one({"kind": "class", "forget_class": "cat"})
    half = one({"kind": "class", "forget_class": "cat", "fraction": 0.5})
    assert set(LABELS[half.forget]) == {3}
    assert len(half.forget) == round(0.5 * len(whole.forget))
    assert len(half.test_forget) == 0  # its test pictures are still to be recognised
    assert apart(half)


def test_a_count_and_a_fraction():
    assert len(one({"kind": "random", "count": 45}).forget) == 45
    assert len(one({"kind": "random", "fraction": 0.1}).forget) == 54  # of the 540 that are trained on


def test_subclasses_keep_their_label_and_are_tested_on_apart():
    found = one({"kind": "subclass", "forget_subclass": "s5"})
    assert set(np.arange(N)[found.forget] % 8) == {5}
    assert set(np.arange(M)[found.test_forget] % 8) == {5}
    assert 1 in LABELS[found.retain]  # of the other subclass under the same label


def test_listed_pictures_are_forgotten_all_and_none_is_held_out(tmp_path):
    wanted = [3, 599, 41, 7]
    (tmp_path / "list.txt").write_text("3\n599\n\n41\n7\n")
    (tmp_path / "names.txt").write_text("cat/003.png\n599.png\n2\\041.png\nsomewhere/else/cat/007.png\n")
    (tmp_path / "list.csv").write_text("index,set\n3,forget\n599,forget\n5,retain\n41,forget\n7,forget\n")
    np.save(tmp_path / "list.npy", np.array(wanted))
    np.save(tmp_path / "mask.npy", np.isin(np.arange(N), wanted))
    for seed in range(5):
        for given in ({"indices": wanted}, *({"file": str(path)} for path in tmp_path.iterdir())):
            found = one({"kind": "indices", **given}, seed=seed)
            assert found.forget.tolist() == sorted(wanted), given
            assert apart(found)
            assert set(found.trained.tolist()) == set(found.forget.tolist()) | set(found.retain.tolist())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("3\n600\n", "index 600 is none of the training pictures 0 to 599"),
        ("-1\n", "index -1"),
        ("3\n3\n", "index 3 is given twice"),
        ("", "lists no picture"),
        ("3\ncat/nowhere.png\n", "'3' names no training picture"),
        ("cat/003.png\nnowhere.png\n", "'nowhere.png' names no training picture (1 of 2 do not)"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(tmp_path, content, says):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(UserError) as error:
        one({"kind": "indices", "file": str(tmp_path / "list.txt")})
    assert says in str(error.value)


def table_of(tmp_path, text, **settings):
    (tmp_path / "people.csv").write_text(text)
    return {"kind": "column", "table": str(tmp_path / "people.csv"), "column": "person", "value": "anna", **settings}


def with_table(scenario, crowd):
    """The population as the planner makes it, with the scenario's columns."""
    from dataclasses import replace
    from pathlib import Path

    from loreun_bench.classification.data.lists import read_columns

    counts = [len(crowd.labels), len(crowd.test_labels)]
    columns, note = read_columns(Path(scenario["table"]), scenario.get("key"), [crowd.table, crowd.test_table], counts)
    return replace(crowd, csvs=crowd.csvs | {scenario["table"]: columns}, notes=(note,))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["{class_}/{i:03}.png", "{i:03}.png", "train/{class_}/{i:03}.png"])
def test_all_pictures_of_a_person_wherever_they_are(tmp_path, separator, name):
    who = ["anna" if i % 50 == 0 else "ben" for i in range(N)]
    rows = [separator.join([str(i), name.format(class_=NAMES[i % 4], i=i), who[i]]) for i in range(N)]
    rows += [separator.join(["", f"t{i:03}.png", "anna" if i < 5 else "ben"]) for i in range(M)]
    head = separator.join(["number", "picture", "Person"])
    scenario = table_of(tmp_path, "\ufeff" + "\n".join([head, *rows]) + "\n")
    found = one(scenario, with_table(scenario, people()))
    assert found.forget.tolist() == list(range(0, N, 50))  # all of them: none was held out
    assert found.test_forget.tolist() == [0, 1, 2, 3, 4]
    assert Scenario(**scenario).label == "person-anna"


def test_data_without_files_go_by_rows_or_by_an_index(tmp_path):
    crowd = Population(LABELS, TEST, NAMES)
    in_order = table_of(tmp_path, "person\n" + "".join("anna\n" if i in (2, 9) else "ben\n" for i in range(N)))
    assert one(in_order, with_table(in_order, crowd)).forget.tolist() == [2, 9]
    by_index = table_of(tmp_path, "index,person\n9,anna\n400,anna\n5,ben\n")
    assert one(by_index, with_table(by_index, crowd)).forget.tolist() == [9, 400]


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ("file,person\n1/000.png,anna\n", {"value": "ana"}, "there is no 'ana'; did you mean 'anna'"),
        ("file,person\n1/000.png,anna\n", {"column": "persn"}, "there is no 'persn'; did you mean 'person'"),
        ("file,person\n1/000.png,anna,x\n", {}, "people.csv:2: 3 values for 2 columns"),
        ("file,person\n", {}, "no rows"),
        ("file,file\na,b\n", {}, "two columns called 'file'"),
        ("file,person\nnowhere.png,anna\n", {}, "none of its columns names pictures of the data, such as 1/000.png"),
        ("file,person\n1/000.png,anna\n", {"key": "name"}, "no column 'name'"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path, text, settings, says):
    scenario = table_of(tmp_path, text, **settings)
    with pytest.raises(UserError) as error:
        one(scenario, with_table(scenario, people()))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_lowest_and_highest_loss():
    losses = np.random.default_rng(0).random(N)
    low = one({"kind": "by-loss", "count": 30}, people(losses=losses))
    high = one({"kind": "by-loss", "count": 30, "which": "highest"}, people(losses=losses))
    trained = low.trained.numpy()
    assert set(low.forget.tolist()) == set(trained[np.argsort(losses[trained])[:30]].tolist())
    assert set(high.forget.tolist()) == set(trained[np.argsort(losses[trained])[-30:]].tolist())
    assert low.validation.tolist() == one({"kind": "random", "fraction": 0.1}).validation.tolist()  # scenarios share it


def test_requests_of_a_sequence_follow_one_another():
    listed = {"kind": "indices", "indices": [0, 4, 1]}
    asked = [{"kind": "class", "forget_class": "2"}, {"kind": "random", "count": 50}, listed]
    first, second, third = split({"kind": "sequence", "requests": asked})
    assert first.retain.tolist() == sorted(second.forget.tolist() + second.retain.tolist())
    assert len(second.forget) == 50
    assert set(second.earlier.tolist()) == set(first.forget.tolist())
    assert set(third.earlier.tolist()) == set(first.forget.tolist()) | set(second.forget.tolist())
    assert set(third.forget.tolist()) == {0, 4} - set(second.forget.tolist())  # 1 is of the class that is gone already
    assert len({tuple(each.trained.tolist()) for each in (first, second, third)}) == 1
    assert not set(third.validation.tolist()) & {0, 1, 4}
    assert 1 not in TEST[third.test]  # the class is still gone
    assert len(first.test_forget) == 30
    assert len(second.test_forget) == len(third.test_forget) == 0


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ({"kind": "class", "forget_class": "22"}, "forget_class: there is no '22'"),
        ({"kind": "subclass", "forget_subclass": "s9"}, "forget_subclass: there is no 's9'"),
        ({"kind": "random", "fraction": 0.1, "count": 3}, "one of the two"),
        ({"kind": "random"}, "one of the two"),
        ({"kind": "random", "fraction": 0.1, "metods": {}}, "did you mean 'methods'"),
        ({"kind": "indices"}, "one of the two"),
        ({"kind": "column", "table": "x.csv", "column": "person"}, "'value' must be given"),
        ({"kind": "clas", "forget_class": 1}, "did you mean 'class'"),
        ({"kind": "sequence", "requests": [{"kind": "random", "count": 3}]}, "two scenarios or more"),
        ({"kind": "sequence", "requests": [{"kind": "mislabelled", "count": 3}] * 2}, "cannot be of kind mislabelled"),
        ({"kind": "sequence", "requests": [{"kind": "random", "count": 3, "train": {"lr": 1}}] * 2}, "beside its requests"),
        ({"kind": "sequence", "requests": [{"kind": "random", "count": 3}, {"kind": "rando"}]}, "did you mean 'random'"),
        ({"kind": "sequence", "requests": [{}, {}]}, "scenario sequence: request 1.kind: Field required"),
        ({"kind": "sequence", "requests": [{"kind": "random", "count": 3}, {"kind": 3}]}, "request 2.kind: Input should be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(scenario, says):
    with pytest.raises(UserError) as error:
        split(scenario)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_data_without_subclasses_say_so():
    with pytest.raises(UserError, match="know no subclasses"):
        one({"kind": "subclass", "forget_subclass": "s1"}, Population(LABELS, TEST, NAMES))


def test_an_image_limit_keeps_what_is_named():
    found = one({"kind": "indices", "indices": [5, 500]}, images=100)
    assert found.forget.tolist() == [5, 500]
    assert len(found.trained) + len(found.validation) == 100


def test_a_picture_is_found_by_as_much_of_its_path_as_tells_it_from_others():
    parts = [["train/a/x.png", "train/b/x.png", "train/c/y.png"], ["test/a/x.png", "test/c/z.png"]]
    names = ["train/a/x.png", "/data/test/a/x.png", "b/x.png", "y.png", "z", "b/x", "c\\y.png", "test/b/x.png", "no.png"]
    assert match(names, parts, "t") == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 1), (0, 2), None, None]
    for word in ("x.png", "a/x.png", "x"):
        with pytest.raises(UserError, match="names several pictures, such as"):
            match([word], parts, "t")


def test_rows_of_training_and_test_pictures_of_one_name_stay_apart(tmp_path):
    """Both parts have pictures called 1/000.png, and one table says who is on each."""
    files = [[f"{part}/{NAMES[i % 4]}/{i:03}.png" for i in range(n)] for part, n in (("train", N), ("test", M))]
    crowd = Population(LABELS, TEST, NAMES, {"file": text(files[0])}, {"file": text(files[1])})
    rows = [f"data/{file},{'Anna' if i % 20 == 0 else 'ben'}" for i, file in enumerate(files[0])]
    rows += [f"data/{file},{'anna' if i % 30 == 0 else 'ben'}" for i, file in enumerate(files[1])]
    scenario = table_of(tmp_path, "path,person\n" + "\n".join(rows))
    found = one(scenario, with_table(scenario, crowd))
    assert found.forget.tolist() == list(range(0, N, 20))
    assert found.test_forget.tolist() == list(range(0, M, 30))


def test_a_picture_of_several_people_is_each_ones(tmp_path):
    rows = [f"{NAMES[i % 4]}/{i:03}.png,{who}" for i in range(N) for who in (["anna", "ben"] if i % 100 == 0 else ["ben"])]
    scenario = table_of(tmp_path, "file,person\n" + "\n".join(rows))
    assert one(scenario, with_table(scenario, people())).forget.tolist() == list(range(0, N, 100))


def test_two_tables_of_a_sequence_do_not_mix(tmp_path):
    crowd, asked = people(), []
    for name, first in (("a.csv", 0), ("b.csv", 100)):
        rows = [f"{NAMES[i % 4]}/{i:03}.png,{'north' if first <= i < first + 5 else 'south'}" for i in range(N)]
        (tmp_path / name).write_text("file,site\n" + "\n".join(rows))
        asked.append({"kind": "column", "table": str(tmp_path / name), "column": "site", "value": "north"})
        crowd = with_table(asked[-1], crowd)
    first, second = split({"kind": "sequence", "requests": asked}, crowd)
    assert first.forget.tolist() == [0, 1, 2, 3, 4]
    assert second.forget.tolist() == [100, 101, 102, 103, 104]


def test_rows_and_pictures_without_partner_are_said(tmp_path):
    scenario = table_of(tmp_path, "file,person\n1/000.png,anna\n2/001.png,ben\nnowhere.png,anna\n")
    (note,) = with_table(scenario, people()).notes
    assert note == (
        "table people.csv: 2 of 3 rows are of pictures of the data, by its column 'file'; 1 are of none; "
        "598 of 600 training pictures have no row"
    )


def test_rows_of_an_exported_split_keep_their_part(tmp_path):
    """With a column more, the file that `split export` writes is a table of both parts."""
    head = "part,index,set,person"
    rows = ["train,3,retain,anna", "test,5,test,anna", "test,3,test,ben", "train,5,forget,ben"]
    crowd = Population(LABELS, TEST, NAMES)
    scenario = table_of(tmp_path, "\n".join([head, *rows]) + "\n", value="anna")
    found = one(scenario, with_table(scenario, crowd))
    assert found.forget.tolist() == [3]
    assert found.test_forget.tolist() == [5]
    beyond = table_of(tmp_path, "\n".join([head, *rows, f"test,{len(TEST)},test,anna"]) + "\n", value="anna")
    with pytest.raises(UserError, match=f"'{len(TEST)}' in column 'index' is none of the test pictures 0 to"):
        with_table(beyond, crowd)


def test_a_list_of_rows_by_set_takes_any_case_and_no_test_picture(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("part,index,set\ntrain,3,Forget\nTrain,7,forget\ntest,8,test\n")
    assert one({"kind": "indices", "file": str(path)}).forget.tolist() == [3, 7]
    path.write_text("part,index,set\ntrain,3,forget\ntest,8,forget\n")
    with pytest.raises(UserError, match="'8' is a test picture by its column 'part'; only training pictures are forgotten"):
        one({"kind": "indices", "file": str(path)})
    path.write_text("part,index\nwing,3\nwing,8\n")
    assert one({"kind": "indices", "file": str(path)}).forget.tolist() == [3, 8]


def test_values_that_differ_in_case_only_are_asked_about(tmp_path):
    rows = [f"{NAMES[i % 4]}/{i:03}.png,{['anna', 'Anna', 'ben'][i % 3]}" for i in range(N)]
    scenario = table_of(tmp_path, "file,person\n" + "\n".join(rows))
    with pytest.raises(UserError, match="Anna and anna differ in case only"):
        one(scenario, with_table(scenario, people()))
    both = scenario | {"value": ["anna", "Anna"]}
    assert len(one(both, with_table(both, people())).forget) == 400


@pytest.mark.parametrize("content", ["3\n599\n41\n", "1/000.png\n2/001.png\n11/002.png\n"])
def test_a_csv_of_one_column_may_lack_a_header(tmp_path, content):
    (tmp_path / "list.csv").write_text(content)
    assert len(one({"kind": "indices", "file": str(tmp_path / "list.csv")}).forget) == 3


@pytest.mark.parametrize("content", ["²\n3\n".encode(), "3\n".encode("utf-16")])
def test_odd_text_in_a_list_is_one_line_about_the_list(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        one({"kind": "indices", "file": str(tmp_path / "list.txt")})
    assert "list.txt" in str(error.value)
    assert "indices.py" not in str(error.value)


def test_a_subclass_that_the_test_part_lacks():
    found = one({"kind": "subclass", "forget_subclass": "S5"}, people(test_table={"subclass": text(["s1"] * M)}))
    assert len(found.forget) > 0
    assert len(found.test_forget) == 0


def test_a_class_is_called_as_the_data_spell_it():
    asked = Scenario(kind="class", forget_class=["CAT", 2])
    assert spelled(asked, NAMES).label == "class-cat+2"
    both = Scenario(kind="sequence", requests=[{"kind": "class", "forget_class": "CAT"}, {"kind": "random", "count": 3}])
    assert [each.label for each in requests(spelled(both, NAMES))] == ["class-cat", "random-3"]
