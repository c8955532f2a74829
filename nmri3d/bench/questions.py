"""The questions on which FLAIR is tested: facts, arithmetic and syntax, each with an answer of one token.

They were written down, together with the list of function words, before any model was run on them, and are not to be
tuned afterwards: a question that turns out easy, hard or odd stays. Wording is ours.

Convention. A line is `prompt|answer`, or `prompt|answer|another answer that counts as right`; prompt and answer are
joined as they stand, so that an answer begins with a space unless its prompt ends with one. An answer that is more than
one token for a model is left out for that model, and counted.

Left out: answers of several tokens, and anything that changes with the years (populations, heads of state).
"""

from __future__ import annotations

from dataclasses import dataclass

CATEGORIES = ("facts", "arithmetic", "syntax")


@dataclass(frozen=True)
class Question:
    """A prompt, the texts of the tokens that answer it (the first is the expected one), and one of CATEGORIES."""

    prompt: str
    answers: tuple[str, ...]
    category: str


_FACTS = """
The capital of France is| Paris
The capital of Italy is| Rome
The capital of Germany is| Berlin
The capital of Spain is| Madrid
The capital of Portugal is| Lisbon
The capital of Greece is| Athens
The capital of Austria is| Vienna
The capital of Hungary is| Budapest
The capital of Poland is| Warsaw
The capital of Sweden is| Stockholm
The capital of Norway is| Oslo
The capital of Denmark is| Copenhagen
The capital of Finland is| Helsinki
The capital of Ireland is| Dublin
The capital of Scotland is| Edinburgh
The capital of Wales is| Cardiff
The capital of Belgium is| Brussels
The capital of the Netherlands is| Amsterdam
The capital of Russia is| Moscow
The capital of Ukraine is| Kiev
The capital of Turkey is| Ankara
The capital of Egypt is| Cairo
The capital of Kenya is| Nairobi
The capital of Iran is| Tehran
The capital of Iraq is| Baghdad
The capital of Syria is| Damascus
The capital of Japan is| Tokyo
The capital of China is| Beijing
The capital of South Korea is| Seoul
The capital of Thailand is| Bangkok
The capital of Vietnam is| Hanoi
The capital of Indonesia is| Jakarta
The capital of the Philippines is| Manila
The capital of Pakistan is| Islamabad
The capital of Australia is| Canberra
The capital of New Zealand is| Wellington
The capital of Canada is| Ottawa
The capital of Cuba is| Havana
The capital of Peru is| Lima
The capital of Chile is| Santiago
The capital of Argentina is| Buenos
The capital of the state of Texas is| Austin
The capital of the state of Massachusetts is| Boston
The capital of the state of Georgia is| Atlanta
The capital of the state of California is| Sacramento
The Eiffel Tower stands in the city of| Paris
The Colosseum stands in the city of| Rome
The Statue of Liberty stands in the city of New| York
Big Ben stands in the city of| London
The Acropolis stands in the city of| Athens
The Kremlin stands in the city of| Moscow
The Brandenburg Gate stands in the city of| Berlin
Mount Fuji is a mountain in the country of| Japan
The Taj Mahal is a monument in the country of| India
Machu Picchu is a ruined city in the country of| Peru
The Great Pyramid of Giza is in the country of| Egypt
The Great Barrier Reef lies off the coast of| Australia
The largest planet of the solar system is| Jupiter
The planet closest to the Sun is| Mercury
The planet that is famous for its rings is| Saturn
The planet that is called the red planet is| Mars
The planet that comes after Uranus is| Neptune
The third planet from the Sun is| Earth
The largest ocean of the world is the| Pacific
The ocean between Europe and America is the| Atlantic
The longest river of South America is the| Amazon
The largest desert of Africa is the| Sahara
The highest mountain of the world is Mount| Everest
The people of Brazil speak| Portuguese
The people of Mexico speak| Spanish
The people of Austria speak| German
The people of Egypt speak| Arabic
The people of Iran speak| Persian
The people of Israel speak| Hebrew
The people of the Netherlands speak| Dutch
The people of Quebec speak| French
The play Hamlet was written by William| Shakespeare
The theory of evolution was proposed by Charles| Darwin
The theory of relativity was proposed by Albert| Einstein
The law of gravitation was found by Isaac| Newton
The novel Oliver Twist was written by Charles| Dickens
The novel Pride and Prejudice was written by Jane| Austen
The Mona Lisa was painted by Leonardo da| Vinci
The first man on the Moon was Neil| Armstrong
The first president of the United States was George| Washington
The president during the American Civil War was Abraham| Lincoln
The telephone was invented by Alexander Graham| Bell
The light bulb was invented by Thomas| Edison
The composer of the Ninth Symphony who became deaf was Ludwig van| Beethoven
Penicillin was discovered by Alexander| Fleming
The chemical symbol of hydrogen is| H
The chemical symbol of oxygen is| O
The chemical symbol of carbon is| C
The chemical symbol of gold is| Au
The chemical symbol of silver is| Ag
The chemical symbol of iron is| Fe
The chemical symbol of sodium is| Na
The chemical symbol of lead is| Pb
The chemical symbol of potassium is| K
The chemical symbol of nitrogen is| N
Water is made of hydrogen and| oxygen
The gas that plants take in from the air is carbon| dioxide
The organ that pumps blood through the body is the| heart
The organ that we think with is the| brain
The organ that we breathe with is the| lungs| lung
The organ that cleans the blood and makes urine is the| kidney| kidneys
The largest organ of the human body is the| skin
The animal that barks is the| dog
The animal that says meow is the| cat
The largest animal on Earth is the blue| whale
A baby cat is called a| kitten
A baby dog is called a| puppy
A baby cow is called a| calf
A baby sheep is called a| lamb
A person who bakes bread is called a| baker
A person who flies an aeroplane is called a| pilot
The color of the sky on a clear day is| blue
The color of grass is| green
The color of blood is| red
The color of fresh snow is| white
The color of coal is| black
The color of a ripe banana is| yellow
Mixing blue and yellow paint gives| green
Mixing red and white paint gives| pink
Mixing red and blue paint gives| purple
The opposite of hot is| cold
The opposite of big is| small| little
The opposite of day is| night
The opposite of rich is| poor
The opposite of empty is| full
The opposite of early is| late
The opposite of north is| south
The opposite of ancient is| modern
The opposite of victory is| defeat
The opposite of cheap is| expensive
The day after Monday is| Tuesday
The day after Thursday is| Friday
The day before Sunday is| Saturday
The day before Wednesday is| Tuesday
The month after January is| February
The month after August is| September
The month before May is| April
The month before December is| November
The season after winter is| spring
The season after summer is| autumn| fall
The currency of the United Kingdom is the| pound
The main ingredient of bread is| flour
The main ingredient of an omelette is| eggs| egg
Wine is made from| grapes
Cheese is made from| milk
Paper is made from| wood
Bees make| honey
The frozen form of water is| ice
"""

_ARITHMETIC = """
1 + 1 = |2
2 + 3 = |5
4 + 4 = |8
5 + 2 = |7
6 + 3 = |9
3 + 1 = |4
0 + 7 = |7
2 + 6 = |8
3 + 3 = |6
1 + 8 = |9
5 + 4 = |9
7 - 3 = |4
9 - 4 = |5
8 - 6 = |2
6 - 5 = |1
5 - 2 = |3
9 - 9 = |0
8 - 1 = |7
7 - 5 = |2
12 - 5 = |7
15 - 8 = |7
13 - 9 = |4
11 - 6 = |5
17 - 9 = |8
14 - 8 = |6
20 - 14 = |6
31 - 28 = |3
47 - 39 = |8
52 - 46 = |6
100 - 95 = |5
2 * 3 = |6
2 * 2 = |4
4 * 2 = |8
3 * 3 = |9
1 * 7 = |7
5 * 1 = |5
0 * 9 = |0
6 / 2 = |3
8 / 4 = |2
9 / 3 = |3
10 / 2 = |5
12 / 4 = |3
18 / 3 = |6
21 / 3 = |7
24 / 6 = |4
35 / 7 = |5
48 / 8 = |6
56 / 8 = |7
63 / 9 = |7
72 / 9 = |8
81 / 9 = |9
Two plus two equals| four
Three plus four equals| seven
Five plus five equals| ten
Six plus three equals| nine
One plus five equals| six
Seven plus five equals| twelve
Eight plus three equals| eleven
Ten minus three equals| seven
Nine minus one equals| eight
Eight minus four equals| four
Twelve minus two equals| ten
Two times three equals| six
Three times three equals| nine
Four times five equals| twenty
Two times ten equals| twenty
Five times two equals| ten
Half of four is| two
Half of ten is| five
Half of twelve is| six
Half of sixteen is| eight
Twice four is| eight
Twice three is| six
1, 2, 3, 4, |5
2, 4, 6, |8
1, 3, 5, 7, |9
9, 8, 7, 6, |5
9, 7, 5, 3, |1
8, 6, 4, |2
1, 2, 4, |8
One, two, three,| four
Two, four, six,| eight
Ten, nine, eight,| seven
Five, ten, fifteen,| twenty
First, second, third,| fourth
The number of days in a week is| seven
The number of legs of a spider is| eight
The number of legs of an insect is| six
The number of sides of a triangle is| three
The number of sides of a square is| four
The number of months in a year is| twelve
The number of players in a football team is| eleven
If I have three apples and eat one, the number of apples left is| two
If I have five coins and find two more, my number of coins is| seven
A dozen is| twelve
"""

_SYNTAX = """
One cat, two| cats
One child, two| children
One mouse, two| mice
One foot, two| feet
One tooth, two| teeth
One woman, two| women
One man, two| men
One leaf, two| leaves
One knife, two| knives
One city, two| cities
One sheep, two| sheep
One goose, two| geese
One box, two| boxes
One person, two| people
One wolf, two| wolves
Today I go. Yesterday I| went
Today I see. Yesterday I| saw
Today I eat. Yesterday I| ate
Today I run. Yesterday I| ran
Today I write. Yesterday I| wrote
Today I sing. Yesterday I| sang
Today I walk. Yesterday I| walked
Today I take. Yesterday I| took
Today I bring. Yesterday I| brought
Today I fly. Yesterday I| flew
Today I teach. Yesterday I| taught
Today I sleep. Yesterday I| slept
Today I know. Yesterday I| knew
Today she drinks. Yesterday she| drank
Today they swim. Yesterday they| swam
big, bigger,| biggest
small, smaller,| smallest
good, better,| best
bad, worse,| worst
tall, taller,| tallest
fast, faster,| fastest
much, more,| most
strong, stronger,| strongest
go, went,| gone
see, saw,| seen
write, wrote,| written
take, took,| taken
sing, sang,| sung
drink, drank,| drunk
break, broke,| broken
speak, spoke,| spoken
give, gave,| given
I am here, you are here, he| is
I was there, you were there, she| was
I have one, you have one, he| has
I do it, you do it, she| does
I am tired, and they| are
The birds sing. The bird| sings
The boys run. The boy| runs
The girl reads. The girls| read
The man walks. The men| walk
The woman sleeps. The women| sleep
The teacher speaks. The teachers| speak
The king saw himself in the mirror, and the queen saw| herself
The girl washed herself, and the boy washed| himself
The woman blamed herself, and the men blamed| themselves
I hurt myself, and you hurt| yourself
We enjoyed ourselves, and they enjoyed| themselves
The cat licked| itself
The keys to the cabinet| are| were
The key to the cabinets| is| was
The pictures on the wall of the museum| are| were
The author of the books| is| was
The boys who know the teacher| are| were
The boy who knows the teachers| is| was
The flowers in the vase on the table| are| were
The box with the old letters| is| was
The children near the river| are| were
The leader of the workers| is| was
Neither of the two answers| is| was
Each of the students| has| is| was
There are many books, but there| is
If I were rich, I| would
He has never been there, and neither| have| has
She asked him whether he| was| had| would| could
"""


def _questions(lines: str, category: str) -> list[Question]:
    parts = [line.split("|") for line in lines.strip().splitlines()]
    return [Question(prompt, tuple(answers), category) for prompt, *answers in parts]


QUESTIONS: tuple[Question, ...] = tuple(
    question
    for category, lines in zip(CATEGORIES, (_FACTS, _ARITHMETIC, _SYNTAX), strict=True)
    for question in _questions(lines, category)
)
"""Every question, facts first."""

_FUNCTION_WORDS = """
a an the this that these those some any no every each all both another such
my your his her its our their whose which what who whom
of in on at by for from to into onto with without within about over under between among through during before after
against across around near upon up down out off per via as than like
and or but nor so yet if because while when where although though since until whether
i you he she it we they me him us them one
not also only very just too then there here now still always often never actually known called named located
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry the sentence on without answering (lower case, without spaces)."""


def continues_without_answer(text: str) -> bool:
    """Whether a token's text only carries the sentence on or ends it.

    That is a function word, punctuation (no letter and no digit), white space, or a special token such as <|im_end|>.
    """
    word = text.strip().lower()
    return word in FUNCTION_WORDS or word.startswith("<|") or not any(character.isalnum() for character in word)
