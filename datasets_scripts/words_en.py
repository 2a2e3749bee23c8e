"""English: words that fill the sentences of the corpus of natural voices, beside those of the demo corpus.

Words are dealt to the splits by their position (`voice_texts.deal`), but for the digits, which all splits say.
"""

from datasets_scripts.demo_grammar import words_of


LEXICONS = {
    "name": words_of(
        "aaron, abigail, adrian, agnes, albert, alice, amanda, amelia, andre, angela, anita, anton, arthur, astrid, "
        "barbara, beatrice, bianca, boris, brandon, brenda, bruno, camille, carl, carmen, cecilia, charlie, clara, "
        "connor, cynthia, daisy, dalia, damian, dennis, derek, dominic, doris, edith, edwin, eleanor, elias, emma, "
        "erica, ernest, esther, ethan, eva, felix, fiona, florence, frederick, gabriel, gemma, george, gloria, "
        "gordon, gustav, harold, hassan, heather, helen, henry, hugo, ibrahim, ingrid, irene, isaac, isabel, jacob, "
        "jasmine, jerome, joanna, jonas, julia, keiko, kenneth, kofi, laura, lena, leonard, lillian, linus, lorenzo, "
        "lucas, mabel, malcolm, marcus, martha, mateo, matilda, maurice, mei, melissa, mohamed, monica, naomi, "
        "nathan, nigel, nina, noah, olga, olivia, omar, pamela, patrick, paula, pedro, penelope, peter, philip, "
        "rachel, raj, ramona, rebecca, roland, rosa, rufus, sabrina, sebastian, selma, simon, sofia, stella, stuart, "
        "sylvia, tamara, tariq, teresa, thomas, tobias, trevor, valerie, vera, vincent, walter, wesley, yasmin, yuki, "
        "yusuf"
    ),
    "item": words_of(
        "anchor, apron, balloon, banner, basket, battery, blanket, bottle, bracelet, bucket, button, camera, candle, "
        "carpet, chair, clock, coin, cushion, dagger, diary, drum, envelope, fan, feather, flag, flute, fork, glove, "
        "guitar, hat, helicopter, jacket, kettle, kite, laptop, leather belt, magnet, marble, microphone, mirror, "
        "mug, necklace, notebook, paddle, pencil, pillow, postcard, plate, pocket watch, puzzle, quilt, radio, "
        "ribbon, ring, rocket, saddle, scarf, scissors, sofa, spoon, staff, stopwatch, suitcase, telescope, tent, "
        "thermos, ticket, towel, tractor, trumpet, umbrella, vase, violin, wagon, wallet, whistle, wrench"
    ),
    "place": words_of(
        "airport, arcade, attic, bakery, balcony, barn, basement, canyon, cathedral, cellar, cemetery, clinic, "
        "cottage, courtyard, desert, dock, dungeon, embassy, factory, fountain, gallery, greenhouse, gym, hallway, "
        "hill, hospital, hotel, igloo, jungle, kitchen, laboratory, lagoon, meadow, mountain, office, orchard, "
        "palace, playground, quarry, reef, restaurant, roof, school, shipyard, staircase, subway, swamp, temple, "
        "theater, tunnel, valley, vault, volcano, warehouse, waterfall, windmill, workshop, zoo"
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
        "after midnight, after school, all afternoon, at dawn, at half past nine, at quarter to six, before "
        "breakfast, before sunset, during the break, every tuesday, in a couple of hours, in december, in the "
        "evening, in two weeks, just now, last monday, last summer, next spring, on my birthday, on thursday, on "
        "wednesday, once a month, right after practice, some other day, the day after tomorrow, this afternoon, this "
        "morning, twice a week, yesterday"
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

# They contain a spelling of a keyword, rhyme with it or differ from it in a sound: none may be taken for it.
SOUND_ALIKES = words_of(
    "shitake, assassin, duck, van dyke, cockpit, scunthorpe, hello, pass, class, dickens, shirt, ship, sheet, hit, "
    "truck, luck, bucket, trucker, focus, dam, jam, damp, damage, madam, adamant, clap, wrap, scrap, trap, craft, "
    "grape, kiss, miss, pistachio, mississippi, hiss, ask, glass, grass, brass, bass, mass, massive, passage, assist, "
    "embassy, classic, dictionary, dictate, sick, thick, deck, duke, dock, clock, rock, sock, cockatoo, peacock, "
    "cocktail, hancock, cog, third, bird, word, turtle, turbine, saturday, sturdy, bulls eye, bullet, bulldozer, "
    "pollocks, rollerblade, bullocks, frigate, fridge, digging, witch, rich, ditch, pitch, beach, mustard, custard, "
    "plastered, master, anchor, banker, tanker, hanker, wonder, jackal, jacket, jasmine, smart, glasshouse, dosage, "
    "debussy, tossed salad, boss, dishes, dipstick, ship shape, bell, friend, lend, bookend, screw, screwdriver, "
    "crew, brew, titan, title, titanic, hits, bits, kits, idiom, idol, idea, video, moth, more on, boredom, marron, "
    "student, stupendous, stew, chooser, user, closer, sooner, cruiser, athletic, sympathetic, poetic, priceless, "
    "weightless, earthless, smugly, snugly, hugely, early, cowboy, cower, howard, powered, plumb, handbag, beanbag, "
    "sandbag, sheep, steep, crepe, sleep, beard, weird, widow, cry, lullaby, crown, brown, cloud, clone, clerk, dirk, "
    "jerky, germ, newt, snoop, soup, noodle, chirp, syrup, term, dim sum, numb, skull, digesting, discussing, "
    "adjusting, crash, splash, thrash, shutter, shut the door, cut up, set up, get last, get the list, taxi, sax, "
    "essex, sixty, snaked, baked, make it, corny, thorny, horn, kinetic, pinky, inky, popcorn, born, corn, torn, "
    "skirt, dirt, alert, reduce, produce, deduce, organism, organ, origami, masterpiece, mastermind, stripes, strip "
    "mall, tease, look up, hook, book, cook up, blast, orb, splendor, squid, fractal, fraction, blend, plenty, "
    "pickwick, trip, echo, solo, snorkel, splint, quell, cooking, keynote, heroine, hero, heron, marina, maria, soda, "
    "vodcast, risky, frisky, rescue, sequel, mantilla, overdraft, overdoes, over there, tourist, terrace, terrific, "
    "crystal math, crystal clear, pipe organ, pipeline, bath bomb, photo bomb"
)
