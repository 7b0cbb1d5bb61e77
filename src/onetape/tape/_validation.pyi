# To the type checker these are the reference: they fill the same interface, and tests hold them to that.
from onetape.tape.validation import Pair as Pair
from onetape.tape.validation import Recent as Recent
