"""Claims about the division of an image into tiles."""

from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.tile_grid import Area, tile_grid

grids = st.builds(tile_grid, st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 16))


@given(grids)
def test_tiles_cover_each_block_once_row_by_row(grid):
    rows, columns = grid.blocks
    owner = {}
    for number in range(grid.count):
        top, left, bottom, right = grid.area(number)
        for block in ((r, c) for r in range(top, bottom) for c in range(left, right)):
            assert owner.setdefault(block, number) == number
    assert set(owner) == {(r, c) for r in range(rows) for c in range(columns)}
    areas = [grid.area(number) for number in range(grid.count)]
    assert [a[:2] for a in areas] == sorted(a[:2] for a in areas)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 16))
def test_tiles_are_few_and_nearly_equal(height, width, side):
    grid = tile_grid(height, width, side)
    sizes = [grid.area(number).size for number in range(grid.count)]
    for axis in (0, 1):
        along = {size[axis] for size in sizes}
        assert 1 <= min(along) <= max(along) <= side
        assert max(along) - min(along) <= 1
        assert grid.tiles[axis] == -(-grid.blocks[axis] // side)


@given(grids, st.data())
def test_tiles_that_touch_an_area_are_those_that_share_blocks_with_it(grid, data):
    begin = [data.draw(st.integers(0, n - 1)) for n in grid.blocks]
    end = [data.draw(st.integers(b + 1, n)) for b, n in zip(begin, grid.blocks, strict=True)]
    area = Area(*begin, *end)
    sharing = [n for n in range(grid.count) if min(grid.area(n).common(area).size) > 0]
    assert list(grid.touching(area)) == sharing


def test_an_absurdly_large_grid_costs_nothing():
    grid = tile_grid(2**32 - 1, 2**32 - 1, 1)
    assert grid.count == 2**52
    assert grid.area(2**52 - 1) == Area(2**26 - 1, 2**26 - 1, 2**26, 2**26)


@given(st.lists(st.integers(0, 300), min_size=4, max_size=4), st.integers(0, 9), st.integers(0, 9))
def test_areas_are_counted_from_others_and_in_blocks(edges, down, right):
    top, left, height, width = edges
    area = Area(top, left, top + height + 1, left + width + 1)
    moved = Area(*(edge + (down, right)[i % 2] for i, edge in enumerate(area)))
    assert moved.relative_to(Area(down, right, 0, 0)) == area
    found = area.in_blocks()
    assert found.scaled(64).common(area) == area
    assert all(0 <= edge - 64 * block < 64 for edge, block in zip(area[:2], found[:2], strict=True))
    assert all(0 <= 64 * block - edge < 64 for edge, block in zip(area[2:], found[2:], strict=True))
