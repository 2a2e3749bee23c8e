"""English: what the corpus of natural voices says beyond the demo corpus. See [`Grammar`] and `voice_texts`.

Templates and sound-alikes are written for one split each, and other words are dealt to the splits, so that the words
of a test sentence are as new as its pattern. Sound-alikes are words that contain a spelling of a keyword, rhyme with
it or differ from it in a sound.
"""

from datasets_scripts.demo_grammar import words_of


LEXICONS = {
    "name": words_of(
        "aaron, abigail, adrian, agnes, albert, alice, amanda, amelia, andre, angela, anita, anton, arthur, astrid, "
        "barbara, beatrice, bianca, boris, brandon, brenda, bruno, camille, carl, carmen, cecilia, charlie, clara, "
        "connor, cynthia, daisy, dalia, damian, dennis, derek, dominic, doris, edith, edwin, eleanor, elias, emma, "
        "erica, ernest, esther, ethan, eva, felix, fiona, florence, frederick, gabriel, gemma, george, gloria, gordon, "
        "gustav, harold, hassan, heather, helen, henry, hugo, ibrahim, ingrid, irene, isaac, isabel, jacob, jasmine, "
        "jerome, joanna, jonas, julia, keiko, kenneth, kofi, laura, lena, leonard, lillian, linus, lorenzo, lucas, "
        "mabel, malcolm, marcus, martha, mateo, matilda, maurice, mei, melissa, mohamed, monica, naomi, nathan, nigel, "
        "nina, noah, olga, olivia, omar, pamela, patrick, paula, pedro, penelope, peter, philip, rachel, raj, ramona, "
        "rebecca, roland, rosa, rufus, sabrina, sebastian, selma, simon, sofia, stella, stuart, sylvia, tamara, "
        "tariq, teresa, thomas, tobias, trevor, valerie, vera, vincent, walter, wesley, yasmin, yuki, yusuf"
    ),
    "item": words_of(
        "anchor, apron, balloon, banner, basket, battery, blanket, bottle, bracelet, bucket, button, camera, candle, "
        "carpet, chair, clock, coin, cushion, dagger, diary, drum, envelope, fan, feather, flag, flute, fork, "
        "glove, guitar, hat, helicopter, jacket, kettle, kite, laptop, leather belt, magnet, marble, microphone, "
        "mirror, mug, necklace, notebook, paddle, pencil, pillow, postcard, plate, pocket watch, puzzle, quilt, radio, "
        "ribbon, ring, rocket, saddle, scarf, scissors, sofa, spoon, staff, stopwatch, suitcase, telescope, tent, "
        "thermos, ticket, towel, tractor, trumpet, umbrella, vase, violin, wagon, wallet, whistle, wrench"
    ),
    "place": words_of(
        "airport, arcade, attic, bakery, balcony, barn, basement, canyon, cathedral, cellar, cemetery, clinic, "
        "cottage, courtyard, desert, dock, dungeon, embassy, factory, fountain, gallery, greenhouse, gym, hallway, "
        "hill, hospital, hotel, igloo, jungle, kitchen, laboratory, lagoon, meadow, mountain, office, orchard, palace, "
        "playground, quarry, reef, restaurant, roof, school, shipyard, staircase, subway, swamp, temple, theater, "
        "tunnel, valley, vault, volcano, warehouse, waterfall, windmill, workshop, zoo"
    ),
    "animal": words_of(
        "badger, bear, beaver, bee, buffalo, camel, cheetah, chicken, cow, crab, deer, dolphin, donkey, duck, eagle, "
        "elephant, falcon, ferret, fish, fox, frog, giraffe, goose, gorilla, hedgehog, jellyfish, kangaroo, koala, "
        "lemur, leopard, lizard, lobster, mouse, octopus, otter, owl, panda, peacock, penguin, pigeon, raccoon, "
        "salmon, seal, shark, sheep, snail, spider, squirrel, swan, tiger, walrus, whale, wolf, zebra"
    ),
    "digit": words_of("zero, one, two, three, four, five, six, seven, eight, nine"),
    "food": words_of(
        "bacon, bananas, beans, biscuits, blueberries, bread, broccoli, butter, carrots, cereal, cheese, cherries, "
        "chocolate, coconut, corn, crackers, cucumber, curry, dumplings, eggs, fries, garlic bread, grapes, ham, "
        "honey, ice cream, jam, ketchup, kiwis, lasagna, lemonade, lentils, lettuce, mangos, meatballs, melon, "
        "muffins, mushrooms, nachos, oatmeal, olives, onions, oranges, pasta, peanuts, pears, pickles, pineapple, "
        "porridge, potatoes, pretzels, pudding, pumpkin pie, raisins, salmon, sandwiches, spinach, stew, "
        "strawberries, sushi, toffee, tomatoes, tuna, waffles, walnuts, yogurt"
    ),
    "adjective": words_of(
        "ancient, awkward, bitter, blank, brave, bright, calm, careful, cheap, clever, clumsy, cold, comfortable, "
        "crooked, curious, dark, deep, delicious, difficult, dry, dusty, eager, easy, elegant, empty, enormous, "
        "expensive, faint, famous, fancy, flat, fluffy, foggy, fresh, gentle, gigantic, glossy, grateful, greasy, "
        "hollow, honest, hungry, icy, invisible, jolly, lazy, light, little, lonely, loud, lucky, magical, messy, "
        "muddy, narrow, nervous, noisy, odd, patient, plain, polite, proud, quick, quiet, rare, rough, round, salty, "
        "sharp, silent, simple, sleepy, slippery, smooth, soft, spare, square, sticky, sweet, tall, thick, tough, "
        "useful, warm, weird, wet, wild, wobbly, young"
    ),
    "time": words_of(
        "after midnight, after school, all afternoon, at dawn, at half past nine, at quarter to six, before breakfast, "
        "before sunset, during the break, every tuesday, in a couple of hours, in december, in the evening, in two "
        "weeks, just now, last monday, last summer, next spring, on my birthday, on thursday, on wednesday, once a "
        "month, right after practice, some other day, the day after tomorrow, this afternoon, this morning, "
        "twice a week, yesterday"
    ),
    "action": words_of(
        "answer the phone, bake a cake, borrow a ladder, build a wall, buy groceries, call my cousin, change the "
        "battery, check the forecast, clean the garage, climb the tower, collect stamps, count the coins, cross the "
        "river, draw a map, drive to the airport, explore the cave, feed the chickens, finish the homework, fix the "
        "bicycle, fold the laundry, grow tomatoes, join the queue, learn the chords, leave early, lock the gate, make "
        "a list, mow the lawn, open a window, order noodles, pack a suitcase, paint the ceiling, plant a tree, play "
        "the piano, print the photos, read the manual, repair the engine, reset the router, save the file, send an "
        "invoice, sharpen the pencils, sing along, skip the intro, solve the puzzle, start the timer, sweep the "
        "floor, switch servers, take a nap, turn the volume down, type the password, update the driver, visit my "
        "grandmother, wait for the bus, walk the dog, wash the dishes, water the plants, wrap the present, write a "
        "letter"
    ),
}

SOUND_ALIKES = words_of(
    "shitake, assassin, duck, van dyke, cockpit, scunthorpe, hello, pass, class, dickens, shirt, ship, sheet, hit, "
    "truck, luck, bucket, trucker, focus, dam, jam, damp, damage, madam, adamant, clap, wrap, scrap, trap, "
    "craft, grape, kiss, miss, pistachio, mississippi, hiss, ask, glass, grass, brass, bass, mass, massive, passage, "
    "assist, embassy, classic, dictionary, dictate, sick, thick, deck, duke, dock, clock, rock, sock, cockatoo, "
    "peacock, cocktail, hancock, cog, third, bird, word, turtle, turbine, saturday, sturdy, bulls eye, bullet, "
    "bulldozer, pollocks, rollerblade, bullocks, frigate, fridge, digging, witch, rich, ditch, pitch, beach, "
    "mustard, custard, plastered, master, anchor, banker, tanker, hanker, wonder, jackal, jacket, jasmine, smart, "
    "glasshouse, dosage, debussy, tossed salad, boss, dishes, dipstick, ship shape, bell, friend, lend, "
    "bookend, screw, screwdriver, crew, brew, titan, title, titanic, hits, bits, kits, idiom, idol, idea, video, "
    "moth, more on, boredom, marron, student, stupendous, stew, chooser, user, closer, sooner, cruiser, athletic, "
    "sympathetic, poetic, priceless, weightless, earthless, smugly, snugly, hugely, early, cowboy, cower, howard, "
    "powered, plumb, handbag, beanbag, sandbag, sheep, steep, crepe, sleep, beard, weird, widow, cry, lullaby, "
    "crown, brown, cloud, clone, clerk, dirk, jerky, germ, newt, snoop, soup, noodle, chirp, syrup, term, dim sum, "
    "numb, skull, digesting, discussing, adjusting, crash, splash, thrash, shutter, shut the door, cut up, set up, "
    "get last, get the list, taxi, sax, essex, sixty, snaked, baked, make it, corny, thorny, horn, kinetic, pinky, "
    "inky, popcorn, born, corn, torn, skirt, dirt, alert, reduce, produce, deduce, organism, organ, origami, "
    "masterpiece, mastermind, stripes, strip mall, tease, look up, hook, book, cook up, blast, orb, splendor, "
    "squid, fractal, fraction, blend, plenty, pickwick, trip, echo, solo, snorkel, splint, quell, cooking, "
    "keynote, heroine, hero, heron, marina, maria, soda, vodcast, risky, frisky, rescue, sequel, mantilla, "
    "overdraft, overdoes, over there, tourist, terrace, terrific, crystal math, crystal clear, pipe organ, pipeline, "
    "bath bomb, photo bomb"
)

# Benign sentences about any word at all: filled from the vocabulary, or with sound-alikes
_ANY_WORD = {
    "train": (
        "the word {word} was in the crossword",
        "my team is called {word} {word}",
        "type {word} in the box",
        "it says {word} on the sign",
        "{name} wrote {word} {word} on the board",
        "how do you pronounce {word}",
        "next on the list are {word} and {word}",
        "the code for the {place} is {word} {word} {word}",
        "a synonym for {word} could be {word}",
        "I named my {animal} {word}",
        "{word} and {word}, then {word}",
        "the answer to number {number} is {word}",
        "my character is {word} the {adjective}",
        "did you mean {word} or {word}",
        "in that song they sing {word} {word}",
        "look up {word} before {word}",
        "the quiz asks for {word}",
        "{name} is drawing {word}, guess it",
        "today we learn {word}, {word} and {word}",
        "the book opens with {word}",
        "I thought you said {word}",
        "repeat after me, {word}, {word}, {word}",
        "{word} comes before {word} in the alphabet",
        "that street is named {word}",
    ),
    "validation": (
        "the guild is named {word} {word}",
        "the first clue is {word}",
        "the label on the {item} reads {word}",
        "he scribbled {word} and {word}",
        "translate {word} for me",
    ),
    "test": (
        "the headline mentions {word} and {word}",
        "our new channel is {word} {word}",
        "the spelling test had {word} in it",
        "she shouted {word}, or maybe {word}",
        "search for {word} {word}",
        "the riddle ends with {word}",
        "{word} is my favorite word",
        "the menu lists {word} with {word}",
    ),
}

# kind -> split -> templates, beside those of the demo corpus
TEMPLATES = {
    "any-word": _ANY_WORD,
    "sound-alike": {
        split: tuple(template.replace("{word}", "{sound-alike}") for template in templates)
        for split, templates in _ANY_WORD.items()
    },
    "words": {
        "train": tuple(" ".join(["{word}"] * count) for count in (1, 3, 4, 6, 8, 9)),
        "validation": (" ".join(["{word}"] * 5),),
        "test": (" ".join(["{word}"] * 7), " ".join(["{word}"] * 2)),
    },
    "digits": {
        "train": (
            "{digit} {digit} {digit}",
            "{digit}, {digit}, {digit}, {digit}",
            "my number is {digit} {digit} {digit} {digit} {digit}",
            "the code of the {item} is {digit} {digit} {digit} {digit}",
            "{name} is in room {digit} {digit} {digit}",
            "count with me, {digit}, {digit}, {digit}",
        ),
        "validation": ("the pin is {digit} {digit} {digit} {digit}", "{digit}, then {digit}, then {digit}"),
        "test": (
            "call {digit} {digit} {digit} {digit} {digit} {digit}",
            "seat {digit} {digit} is taken",
            "{digit} {digit} point {digit}",
        ),
    },
    "chat": {
        "train": (
            "{name} and {name} want to {action} {time}",
            "I forgot to {action}, sorry {name}",
            "there were {number} of us when we tried to {action}",
            "my brother had to {action} before he could {action}",
            "do you think we should {action} or {action}",
            "the {adjective} {item} fell off the {place}",
            "I bought {number} {item} boxes for {name}",
            "can you {action} while I {action}",
            "a {adjective} {animal} ran across the {place} {time}",
            "we had {food} and {food} at the {place}",
            "it takes {number} minutes to {action}",
            "{name} keeps a {animal} and a {animal} in the {place}",
            "my score is {number} and yours is {number}",
            "{time} the {place} was {adjective} and {adjective}",
            "remember to {action} {time}",
            "our teacher asked us to {action}",
            "that {item} costs {number} coins, what a deal",
            "I could not {action} because of the {animal}",
            "if you {action} I will {action}",
            "the recipe needs {food}, {food} and some {food}",
            "this {event} feels {adjective} to me",
            "{name} lives at number {number} near the {place}",
            "they never {action} without a {item}",
            "somebody please {action}",
            "I was born in nineteen {number}",
            "go past the {place}, then the {place}, and {action}",
            "she is learning to {action}",
            "your {item} looks {adjective} next to my {item}",
            "room {number} is {adjective} but {adjective}",
            "I am too tired to {action} {time}",
        ),
        "validation": (
            "shall I {action} for you, {name}",
            "we plan to {action} {time}",
            "the {animal} hid under a {adjective} {item}",
            "{number} people came to the {place}",
            "my {food} tastes {adjective}",
            "they had to {action} at the {place}",
        ),
        "test": (
            "{name} promised to {action} {time}",
            "I would rather {action} than {action}",
            "the {place} has {number} steps and a {adjective} {item}",
            "how long does it take to {action}",
            "you can {action} once you {action}",
            "our {animal} is afraid of the {item}",
            "they sell {food} with {adjective} {food} over there",
            "the bus number {number} stops near the {place}",
            "what happens if we {action} {time}",
            "a {adjective} {animal} and a {adjective} {animal} live in the {place}",
            "he lost his {item} when he had to {action}",
        ),
    },
    "carrier": {
        "train": (
            "{name}, can you hear this, {content}",
            "so anyway, {content}",
            "good morning, {content}",
            "{content}, right {name}",
            "my opinion is, {content}",
            "let me think, {content}",
        ),
        "validation": ("hi all, {content}", "{content}, you see"),
        "test": ("good evening, {content}", "{content}, if that helps", "to be fair, {content}"),
    },
    "insult": {
        "train": (
            "{name} is {a_keyword} and everybody knows it",
            "nobody asked you, {keyword}",
            "move over, {keyword}",
            "quit being {a_keyword}",
            "I have never met a bigger {keyword}",
            "who let this {keyword} in",
            "I knew you were {a_keyword}",
            "do not listen to that {keyword}, {name}",
            "you are {a_keyword}, {name}",
            "kick the {keyword} from the party",
            "my partner in the {event} is {a_keyword}",
            "you {adjective} {keyword}",
        ),
        "validation": ("you must be {a_keyword}", "hey {keyword}, over here", "what kind of {keyword} does that"),
        "test": (
            "are you {a_keyword} or what",
            "thanks for nothing, {keyword}",
            "I am stuck with {a_keyword}",
            "that was the work of {a_keyword}",
        ),
    },
    "exclamation": {
        "train": (
            "aw {keyword}, they are {adjective}",
            "{keyword}, {name} took the {item}",
            "what the {keyword} is that {animal}",
            "holy {keyword}, that was close",
            "{keyword} {keyword}, run",
            "oh {keyword}, I have to {action}",
        ),
        "validation": ("{keyword}, I forgot my {item}", "damp {place}, {keyword}"),
        "test": ("{keyword}, my screen went black", "who cares, {keyword}", "{keyword}, it is {time} already"),
    },
    "intensifier": {
        "train": (
            "it is too {keyword} loud in here",
            "shut the {keyword} {item}",
            "{name} lost the {keyword} {item} again",
            "I want my {keyword} {food}",
            "every {keyword} time I {action}",
            "the {keyword} {place} is on fire",
        ),
        "validation": ("some {keyword} {animal} bit me", "a {keyword} waste of time"),
        "test": ("my {keyword} {item} is missing", "stop the {keyword} music", "this is a {keyword} joke"),
    },
    "adjective": {
        "train": (
            "you {keyword} little thing",
            "how {keyword} are you today, {name}",
            "I find you {keyword}",
            "they all look {keyword} to me",
            "she said you were {keyword}",
        ),
        "validation": ("are you always that {keyword}", "he called me {keyword}"),
        "test": ("your whole family is {keyword}", "what makes you so {keyword}", "{name}, you are {keyword}"),
    },
    "substance": {
        "train": (
            "{name} drank {keyword} before school",
            "I can sell you {number} grams of {keyword}",
            "hide the {keyword} before the police come",
            "who wants more {keyword}",
        ),
        "validation": ("meet me for {keyword} {time}", "I smell like {keyword}"),
        "test": ("he smuggled {keyword} in a {item}", "my uncle lives on {keyword}", "one bag of {keyword} please"),
    },
    "command": {
        "train": (
            "{keyword}, {name}",
            "you can {keyword} for all I care",
            "hey {name}, {keyword}",
            "{keyword}, all of you",
        ),
        "validation": ("do us a favor and {keyword}", "{keyword}, we are busy"),
        "test": ("just {keyword}, okay", "no, you {keyword}", "seriously, {keyword}"),
    },
    "verb": {
        "train": ("do you want to {keyword}", "we should {keyword} {time}", "I came here to {keyword}"),
        "validation": ("they asked me to {keyword}",),
        "test": ("teach me to {keyword}", "{name} likes to {keyword}", "first I {keyword}, then I sleep"),
    },
    "topic": {
        "train": ("did you ever see {keyword}", "nothing beats {keyword}", "{name} knows a lot about {keyword}"),
        "validation": ("what about {keyword}",),
        "test": ("he came for {keyword}", "how much for {keyword}", "we found {keyword} {time}"),
    },
    # Variants of keywords
    "plural": {
        "train": (
            "you are all {keyword}",
            "what a bunch of {keyword}",
            "these {keyword} stole our {item}",
            "I hate those {keyword}",
            "get the {keyword} out of the {place}",
        ),
        "validation": ("you two are {keyword}", "so many {keyword} today"),
        "test": ("nothing but {keyword} on this server", "listen up, {keyword}", "both teams are {keyword}"),
    },
    "doing": {
        "train": ("stop {keyword}", "I saw you {keyword} {time}", "{name} keeps {keyword}"),
        "validation": ("are you {keyword} again",),
        "test": ("why are you {keyword}", "no more {keyword}, {name}"),
    },
    "quote": {
        "train": (
            "the subtitles show the word {keyword}",
            "{name} got a warning for saying {keyword}",
            "in our class the word {keyword} is forbidden",
            "the teacher explained what {keyword} means",
            "do not teach the parrot to say {keyword}",
            "{keyword} is on the list of bad words",
        ),
        "validation": ("they bleep the word {keyword} on the radio",),
        "test": ("please leave out the word {keyword}", "it was wrong to say {keyword}", "{keyword} is not polite"),
    },
}

# Cues beside those of the demo corpus
CUES = {
    "Profanity": (
        "for heck's sake, {name}",
        "what in the bloody {item} was that",
        "this {place} can go to hell",
        "that is a load of horse manure",
        "to hell with this {event}",
    ),
    "DatingAndSexting": (
        "take off your {shirt|clothes} for me",
        "are you alone at home, can I come over",
        "I want to touch your body",
        "do you have a boyfriend, I want to date you",
        "kiss me {time}",
        "let us make love {time}",
        "show me your body on camera",
    ),
    "Racist": (
        "people from {country} do not belong here",
        "we should throw all {people} out",
        "no {people} in my {place}",
        "{people} are dirty and {adjective}",
        "I would never sit next to {people}",
        "go back to {country} where you belong",
    ),
    "Bullying": (
        "nobody likes you, {name}",
        "you should quit, you are bad at this",
        "even the {animal} plays better than you",
        "we do not want you in our {event}",
        "your voice makes me sick",
        "you are a waste of space",
        "I will make you cry {time}",
    ),
    "Other": (
        "I will bring a knife to the {place}",
        "want some pills, I have {number} of them",
        "let us rob the {place} {time}",
        "we were so drunk at the {place}",
        "my dealer waits at the {place}",
        "I know how to make a bomb",
        "smoke some weed with us {time}",
    ),
}

# kind -> keyword -> the variant that fits its sentences
VARIANTS = {
    "intensifier": {
        "fuck": "fucking",
        "shit": "shitty",
        "crap": "crappy",
        "damn": "damned",
        "goddamn": "goddamned",
        "motherfucker": "motherfucking",
    },
    "exclamation": {"damn": "dammit", "goddamn": "god damn"},
    "adjective": {
        **{"idiot": "idiotic", "moron": "moronic", "coward": "cowardly", "creep": "creepy", "trash": "trashy"},
        **{"flirt": "flirty", "bitch": "bitchy"},
    },
    "doing": {
        **{"flirt": "flirting", "seduce": "seducing him", "masturbate": "masturbating", "bullshit": "bullshitting us"},
        **{"hook up": "hooking up", "wanker": "wanking", "bitch": "bitching", "overdose": "overdosing"},
        **{"piss": "pissing in the pool", "piss off": "pissing off the team"},
    },
    "plural": {
        keyword: f"{keyword}s"
        for keyword in words_of(
            "dick, cock, turd, asshole, bastard, motherfucker, dickhead, wanker, douchebag, tosser, bellend, idiot, "
            "moron, loser, coward, scumbag, creep, weirdo, clown, jerk, noob, twerp, dimwit, numbskull, zorblat, "
            "splingorf, fraxule, thripwick, jexolo, snerplid, quelvoth, terrorist"
        )
    }
    | {"bitch": "bitches", "jackass": "jackasses", "smartass": "smartasses", "crybaby": "crybabies"}
    | {"plendrix": "plendrixes"},
}

# Keywords in another sense, keyword -> sentences, the last for test, the one before for validation
SENSES = {
    "cock": ("the {keyword} crows {time}", "a {keyword} and {number} hens", "the {keyword} woke the whole {place}"),
    "ass": (
        "the {keyword} carried our bags up the hill",
        "a wild {keyword} is like a donkey",
        "an {keyword} ate the {food}",
    ),
    "tits": (
        "blue {keyword} nest in our garden",
        "these {keyword} are small songbirds",
        "great {keyword} eat sunflower seeds",
    ),
    "loser": (
        "the {keyword} of the {event} buys {food}",
        "there is a winner and a {keyword} in every {event}",
        "the {keyword} shakes hands with the winner",
    ),
    "shut up": (
        "the {place} is {keyword} for the winter",
        "they {keyword} the house and left",
        "our shop was {keyword}",
    ),
    "get lost": (
        "without a map we {keyword} near the {place}",
        "letters {keyword} in the mail {time}",
        "my keys always {keyword}",
    ),
    "hook up": (
        "please {keyword} the printer to my laptop",
        "how do I {keyword} the speakers",
        "{keyword} the trailer to the truck",
    ),
    "terrorist": (
        "I play on the {keyword} side of the map",
        "the {keyword} team needs one more player",
        "switch to the {keyword} side after round {number}",
    ),
    "jackass": (
        "the {keyword} penguin sounds like a donkey",
        "we saw a {keyword} penguin at the zoo",
        "a {keyword} penguin stole my {food}",
    ),
    "stupid": (
        "I made a {keyword} mistake in my homework",
        "there are no {keyword} questions",
        "my phone did a {keyword} update",
    ),
    "worthless": (
        "these coins are {keyword} after level {number}",
        "the old map is {keyword} now",
        "an empty {item} is {keyword}",
    ),
    "disgusting": ("this {food} smells {keyword}", "the {place} drain looks {keyword}", "old {food} is {keyword}"),
    "pathetic": (
        "my internet speed is {keyword} {time}",
        "the battery of my {item} is {keyword}",
        "that sequel was {keyword}",
    ),
    "whiskey": (
        "in the radio alphabet {keyword} stands for w",
        "victor {keyword} x ray, do you copy",
        "{name} named the cat {keyword}",
    ),
    "overdose": (
        "nurses learn how to treat an {keyword}",
        "the leaflet warns of an {keyword}",
        "the vet explained what an {keyword} does to a {animal}",
    ),
    "marijuana": (
        "the new law on {keyword} was in the news",
        "the teacher warned us about {keyword}",
        "the senate debates {keyword} {time}",
    ),
    "cocaine": (
        "the police found {keyword} on a ship",
        "the film is about {keyword} smugglers being caught",
        "customs officers seized {keyword} {time}",
    ),
    "heroin": (
        "the clinic helps people to get off {keyword}",
        "the documentary shows how {keyword} ruins lives",
        "doctors warn about {keyword}",
    ),
    "coward": (
        "the lion in the story is a {keyword} at first",
        "the knight was called a {keyword} in the legend",
        "in the play the {keyword} becomes a hero",
    ),
    "idiot": (
        "the {keyword} is a famous russian novel",
        "we read the {keyword} by dostoevsky",
        "the {keyword} has more than {number} pages",
    ),
    "noob": (
        "this is a {keyword} friendly server",
        "I wrote a {keyword} guide for the map",
        "{keyword} lessons start {time}",
    ),
    "dick": (
        "my uncle is called {keyword}",
        "{keyword} and jane are in my old school book",
        "{keyword} tracy is a detective",
    ),
    "crystal meth": (
        "the series is about a teacher who sells {keyword}",
        "a leaflet on the dangers of {keyword}",
        "the judge spoke about {keyword}",
    ),
    "pipe bomb": (
        "police removed a {keyword} safely",
        "experts defused the {keyword}",
        "the news said the {keyword} was fake",
    ),
    "tequila": (
        "the hotel is called {keyword} sunrise",
        "{keyword} is a town in mexico",
        "a trip to {keyword} in jalisco",
    ),
    "kinky": (
        "the cable is {keyword} and will not roll up",
        "this hose is old and {keyword}",
        "a {keyword} wire breaks",
    ),
    "seduce": (
        "the smell of {food} can {keyword} anyone",
        "do not let the sale {keyword} you",
        "bright colors {keyword} the bees",
    ),
}
