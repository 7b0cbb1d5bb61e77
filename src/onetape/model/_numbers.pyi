# To the type checker these are the reference: they fill the same interface, and tests hold them to that.
from onetape.model.numbers import level_number as level_number
from onetape.model.numbers import number as number
